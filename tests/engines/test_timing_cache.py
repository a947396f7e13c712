"""The timing cache of TensorRT: used where it fits, made anew where it does not."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rtseg.engines.tensorrt import PlanOptions, _Build


class Config:
    """``IBuilderConfig`` as documented: it reads any device's cache, and takes this one's."""

    def __init__(self) -> None:
        self.cache: Any = None

    def create_timing_cache(self, content: bytes) -> Any:
        if content == b"garbage":
            return None
        return SimpleNamespace(content=content, serialize=lambda: b"made here")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache.content == b"another GPU" and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


@pytest.mark.parametrize(
    ("there", "used", "warned"),
    [
        (None, b"", False),
        (b"this GPU", b"this GPU", False),
        (b"another GPU", b"", True),
        (b"garbage", b"", True),
        (b"", b"", False),
    ],
)
def test_a_cache_is_used_or_made_anew(
    there: bytes | None,
    used: bytes,
    warned: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "timing.cache"
    if there is not None:
        path.write_bytes(there)
    options = PlanOptions(timing_cache=path)
    build, config = _Build(None, "tensorrt", options, "net", None), Config()
    with caplog.at_level(logging.WARNING):
        build._use_timing(config)
    assert config.cache.content == used
    assert ("made anew" in caplog.text) == warned
    build._keep_timing(config)
    assert path.read_bytes() == b"made here"
    assert len(list(tmp_path.iterdir())) == 1
