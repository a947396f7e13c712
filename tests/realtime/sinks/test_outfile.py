from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.sinks.outfile import OutputFile, refuse_existing, refuse_input, write_whole


def test_an_abandoned_file_ends_at_its_mark(tmp_path):
    file = OutputFile(tmp_path / "a")
    file.write(b"whole")
    file.mark()
    file.write(b"half")
    file.abandon()
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_nothing_written_leaves_nothing_or_what_was_there(tmp_path):
    OutputFile(tmp_path / "new").close()
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").write_bytes(b"old")
    for end in ("close", "abandon"):
        getattr(OutputFile(tmp_path / "old", overwrite=True), end)()
        assert (tmp_path / "old").read_bytes() == b"old"


def test_a_shorter_file_replaces_a_longer_one_whole(tmp_path):
    (tmp_path / "a").write_bytes(b"much longer than that")
    file = OutputFile(tmp_path / "a", overwrite=True)
    file.write(b"short")
    file.close()
    assert (tmp_path / "a").read_bytes() == b"short"


def test_seeking_back_and_writing_keeps_the_rest(tmp_path):
    file = OutputFile(tmp_path / "a")
    file.write(b"0123456789")
    assert file.seek(2) == file.tell() == 2
    file.write(b"ab")
    assert file.seek(0, os.SEEK_END) == 10
    file.mark()
    file.close()
    file.close()
    assert file.closed
    assert (tmp_path / "a").read_bytes() == b"01ab456789"


def test_a_dangling_link_counts_as_existing(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError) as caught:
        OutputFile(tmp_path / "a")
    assert caught.value.reason == "EXISTS"


def test_a_directory_in_the_way(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(SinkError) as caught:
        OutputFile(tmp_path / "a.jsonl", overwrite=True)
    assert caught.value.reason == "IS_A_DIRECTORY"


def test_after_a_failure_nothing_more_is_written():
    file = OutputFile(Path("/dev/full"), overwrite=True)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            file.write(b"x")
    file.abandon()


def test_the_input_is_found_under_any_name(tmp_path):
    source = tmp_path / "in.mp4"
    source.write_bytes(b"x")
    (tmp_path / "link").symlink_to(source)
    os.link(source, tmp_path / "hard")
    for name in ("in.mp4", "link", "hard", "./in.mp4"):
        with pytest.raises(UsageError, match="the input itself"):
            refuse_input(tmp_path / name, source)
    refuse_input(tmp_path / "other", source)
    refuse_input(source, None)


def test_a_small_file_that_fails_leaves_no_half(tmp_path):
    with pytest.raises(SinkError) as caught:
        write_whole(tmp_path / "absent" / "a", b"x")
    assert caught.value.reason == "NOT_FOUND"
    with pytest.raises(SinkError) as caught:
        write_whole(tmp_path, b"x")
    assert caught.value.reason == "IS_A_DIRECTORY"


def test_only_files_count_as_existing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("pipe", "link", ".", "absent"):
        refuse_existing(tmp_path / name, overwrite=False)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    for name in ("file", "dangling"):
        with pytest.raises(UsageError) as caught:
            refuse_existing(tmp_path / name, overwrite=False)
        assert caught.value.reason == "EXISTS"
        refuse_existing(tmp_path / name, overwrite=True)
