"""Where the tests find real input: videos, labelled images and reference weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def find_shared_data() -> Path | None:
    """Return the folder of real input, or None where this clone has none."""
    named = os.environ.get("RTSEG_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return folder.resolve() if folder.is_dir() else None


def shared_data(*parts: str) -> Path:
    """Return a path below the folder of real input; skip the test where it is absent."""
    folder = find_shared_data()
    if folder is None:
        pytest.skip("needs the project's shared data (set RTSEG_DATA)", allow_module_level=True)
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} of the shared data", allow_module_level=True)
    return path


needs_shared_data = pytest.mark.skipif(
    find_shared_data() is None, reason="needs the project's shared data (set RTSEG_DATA)"
)
