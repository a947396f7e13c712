from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtseg.engines.cache import default_cache_dir, keep, writable_cache


def test_the_users_cache_folder_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "rt-seg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "rt-seg"


def test_the_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = writable_cache(tmp_path / "new" / "cache", "runtime-1.0")
    assert folder == tmp_path / "new" / "cache" / "runtime-1.0"
    assert list(folder.iterdir()) == []


def test_no_place_to_write_means_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert writable_cache(tmp_path / "file", "runtime") is None
    assert writable_cache(Path("/proc/nowhere"), "runtime") is None
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        assert writable_cache(tmp_path / "locked", "runtime") is None


def test_what_cannot_be_kept_leaves_nothing_behind(tmp_path: Path) -> None:
    keep(tmp_path / "kept", b"one")
    keep(tmp_path / "kept", b"two")
    assert (tmp_path / "kept").read_bytes() == b"two"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        keep(tmp_path / "folder", b"three")
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "folder"}
