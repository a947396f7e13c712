"""Files that are there whole or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from rtseg.engines.wholefile import is_full, replacing, write_whole


def test_parts_become_one_file_in_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")
    write_whole(path, b"one", memoryview(b"two"), sync=True)
    assert path.read_bytes() == b"onetwo"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ValueError])
def test_what_is_not_finished_leaves_what_was_there(
    tmp_path: Path, raised: type[BaseException]
) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(b"before")

    def write_half() -> None:
        with replacing(path, ".npz") as partial:
            assert partial.parent == tmp_path
            assert partial.suffix == ".npz"
            partial.write_bytes(b"half")
            raise raised

    with pytest.raises(raised):
        write_half()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_file_is_not_taken_for_one_of_its_kind(tmp_path: Path) -> None:
    with replacing(tmp_path / "net-64x32-int8.onnx") as partial:
        partial.write_bytes(b"half")
        assert list(tmp_path.glob("*.onnx")) == []


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as full:
            write_whole(tmp_path / "large", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert is_full(full.value)
    with pytest.raises(FileNotFoundError) as missing:
        write_whole(tmp_path / "absent" / "file", b"")
    assert not is_full(missing.value)
    assert list(tmp_path.iterdir()) == []
