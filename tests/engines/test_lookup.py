"""What is at a path, and what may not be seen."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rtseg.engines.lookup import is_file, is_folder, is_there
from tests.realtime.sources.rights import unprivileged


def test_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    looped = tmp_path / "looped"
    looped.symlink_to(looped)
    for path, found in (
        (file, (True, True, False)),
        (tmp_path, (True, False, True)),
        (Path("/dev/null"), (True, False, False)),
        (tmp_path / "none", (False, False, False)),
        (file / "below", (False, False, False)),
        (looped, (False, False, False)),
    ):
        assert (is_there(path), is_file(str(path)), is_folder(path)) == found


def test_what_may_not_be_seen_is_not_absent(tmp_path: Path) -> None:
    hidden = tmp_path / "folder"
    hidden.mkdir()
    (hidden / "file").touch()
    hidden.chmod(0)
    for asked in (is_there, is_file, is_folder):
        with unprivileged(), pytest.raises(PermissionError):
            asked(hidden / "file")
        with pytest.raises(OSError, match="too long") as caught:
            asked("a" * 300)
        assert caught.value.errno == errno.ENAMETOOLONG
        with pytest.raises(ValueError, match="null"):
            asked("a\0b")
    hidden.chmod(0o700)
