from __future__ import annotations

from pathlib import Path

import pytest

from tests.media import make_video
from tests.realtime.sources.clips import PARTS


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("longer")
    return {
        suffix: make_video(folder / f"drive.{suffix}", 40, **how)  # type: ignore[arg-type]
        for suffix, how in PARTS.items()
    }
