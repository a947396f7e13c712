"""Video files that are damaged, cut, no video, or not to be read: what is said, and what comes."""

from __future__ import annotations

import errno
import itertools
import logging
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.realtime.errors import RealtimeError, SourceError
from rtseg.realtime.sources.file import FileSource
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.unfinished import lacks_index
from tests.media import (
    make_images,
    make_sound,
    make_video,
)
from tests.realtime.sources.clips import PARTS, numbers, read
from tests.realtime.sources.rights import unprivileged


def broken(folder: Path, case: str) -> Path:
    path = folder / case
    if case == "empty.mp4":
        path.write_bytes(b"")
    elif case in ("text.mp4", "notes.txt"):
        path.write_text("this is no video\n" * 100)
    elif case == "noise.mkv":
        path.write_bytes(np.random.default_rng(0).bytes(50_000))
    elif case == "headless.mp4":
        path.write_bytes(make_video(folder / "whole.mp4", 10).read_bytes()[:-900])
    elif case == "header only.mkv":
        path.write_bytes(make_video(folder / "whole.mkv", 10).read_bytes()[:600])
    elif case == "sound.m4a":
        make_sound(path)
    elif case == "captions.srt":
        path.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    return path


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("empty.mp4", "NO_FRAMES"),
        ("text.mp4", "NOT_A_VIDEO"),
        ("notes.txt", "NOT_A_VIDEO"),
        ("noise.mkv", "NOT_A_VIDEO"),
        ("headless.mp4", "NOT_A_VIDEO"),
        ("header only.mkv", "NO_FRAMES"),
        ("sound.m4a", "NOT_A_VIDEO"),
        ("captions.srt", "NOT_A_VIDEO"),
    ],
)
def test_what_is_no_video_gets_one_line_and_a_reason(
    tmp_path: Path, case: str, reason: str
) -> None:
    path = broken(tmp_path, case)
    with pytest.raises(SourceError) as caught:
        read(path)
    assert caught.value.reason == reason, str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("cut", ["in the data", "before the index", "in the index"])
def test_a_recording_that_was_not_finished(tmp_path: Path, suffix: str, cut: str) -> None:
    whole = make_video(tmp_path / f"whole.{suffix}", 30, audio=True).read_bytes()
    index, data = whole.index(b"moov") - 4, whole.index(b"mdat") - 4
    assert index > data
    kept = {"in the data": (data + index) // 2, "before the index": index}.get(cut, index + 99)
    path = tmp_path / f"drive.{suffix}"
    path.write_bytes(whole[:kept])
    with pytest.raises(SourceError) as caught:
        read(path)
    assert caught.value.reason == "NOT_A_VIDEO"
    assert "not finished" in str(caught.value)
    assert "untrunc" in str(caught.value)


def test_a_file_with_its_index_was_finished(tmp_path: Path) -> None:
    path = make_video(tmp_path / "whole.mp4", 10)
    assert not lacks_index(path)
    data = bytearray(path.read_bytes())
    path.write_bytes(data.replace(b"mdat", b"free"))
    assert not lacks_index(path)
    assert not lacks_index(tmp_path / "absent.mp4")
    for case in ("empty.mp4", "text.mp4", "noise.mkv"):
        assert not lacks_index(broken(tmp_path, case))


@pytest.mark.parametrize("hidden", ["file", "folder"])
def test_no_permission(tmp_path: Path, hidden: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = make_video(folder / "secret.mp4", 2)
    (path if hidden == "file" else folder).chmod(0)
    with unprivileged(), pytest.raises(SourceError) as caught:
        read(path)
    folder.chmod(0o700)
    assert caught.value.reason == "PERMISSION_DENIED"
    assert str(caught.value) == f"{path}: no permission to read it"


def test_no_permission_for_a_folder_of_pictures(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "pictures", 1)
    folder.chmod(0)
    with unprivileged(), pytest.raises(SourceError) as caught:
        read(folder)
    folder.chmod(0o700)
    assert caught.value.reason == "PERMISSION_DENIED"


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mjpeg"])
def test_a_cut_file_gives_the_frames_it_has(
    tmp_path: Path, longer: dict[str, Path], suffix: str
) -> None:
    data = longer[suffix].read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(data[: len(data) * 2 // 3])
    found = numbers(read(path))
    assert 15 <= len(found) < 40
    assert found[:15] == list(range(15))


def test_a_cut_mp4_with_its_index_in_front_gives_the_frames_it_has(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", 40)
    front = tmp_path / "front.mp4"
    with (
        av.open(str(whole)) as read_,
        av.open(str(front), "w", options={"movflags": "+faststart"}) as out,
    ):
        stream = out.add_stream_from_template(read_.streams.video[0])
        for packet in read_.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = front.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 2 // 3])
    found = numbers(read(cut))
    assert 10 <= len(found) < 40
    assert found == list(range(len(found)))


def test_damage_in_the_middle_is_skipped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_video(tmp_path / "drive.mp4", 40, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in packets[10:13]:
        assert position is not None
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        frames = read(path)
    assert numbers(frames) == [*range(10), *range(13, 40)]
    assert frames[10].pts_s == pytest.approx(13 / 25), "the gap stays a gap"
    assert "3 damaged packets were skipped" in caplog.text


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_bytes_never_give_more_than_an_error(
    longer: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from(sorted(PARTS)))
    content = bytearray(longer[suffix].read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"drive.{suffix}"
    path.write_bytes(content)
    try:
        frames = read(path, loop=2)
    except RealtimeError as error:
        frames = []
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.EIO, "READ_FAILED"), (errno.EINVAL, "NOT_A_VIDEO")]
)
def test_what_is_wrong_within_a_file_is_no_connection(
    tmp_path: Path, number: int, reason: str
) -> None:
    """Found by benchmarks/fuzz.py: damaged files ended with CONNECTION_FAILED, or FAILED."""
    clip = make_video(tmp_path / "x.mp4", frames=1)
    error = av.error.FFmpegError(number, "whatever")
    explained = FileSource(clip, SourceOptions())._explained(error)
    assert explained.reason == reason
    assert "x.mp4" in str(explained)
