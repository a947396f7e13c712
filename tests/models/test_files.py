"""Files that are there whole or not at all."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.models.errors import ModelError
from rtseg.models.files import save_weights, write_whole


class Weights:
    """A network with 4 MB of weights, whose file is written in one piece."""

    def get_weights(self) -> list[Any]:
        return [np.zeros(1 << 20, np.float32)]

    def save_weights(self, path: Path) -> None:
        path.write_bytes(bytes(4 << 20))


@pytest.fixture
def limit() -> Iterator[None]:
    """No file may be longer than 5 MB, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_weights_are_not_begun_where_they_may_not_fit(tmp_path: Path, limit: None) -> None:
    """Found: HDF5 crashed the process where the disk filled up under it."""
    path = tmp_path / "a.weights.h5"
    path.write_bytes(b"the one before")
    with pytest.raises(ModelError, match="Allowed: a folder with more space") as caught:
        save_weights(Weights(), path)
    assert caught.value.reason == "NO_SPACE"
    assert [file.name for file in tmp_path.iterdir()] == ["a.weights.h5"]
    assert path.read_bytes() == b"the one before"


def test_weights_and_their_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.weights.h5"
    save_weights(Weights(), path)
    assert path.stat().st_size == 4 << 20
    assert [file.name for file in path.parent.iterdir()] == ["a.weights.h5"]
    with pytest.raises(ModelError, match=r"a name in \.weights\.h5"):
        save_weights(Weights(), tmp_path / "a.h5")


def test_the_reason_says_what_is_wrong(tmp_path: Path, limit: None) -> None:
    with pytest.raises(ModelError) as full:
        write_whole(tmp_path / "large", bytes(6_000_000))
    assert full.value.reason == "NO_SPACE"
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError) as blocked:
        write_whole(tmp_path / "file" / "small", b"")
    assert blocked.value.reason == "PERMISSION_DENIED"
