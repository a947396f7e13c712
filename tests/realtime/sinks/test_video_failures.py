"""Video files that cannot be begun, go on or be ended: what is said, and what is left to play."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.video import VideoFileSink
from tests.media import frame_number, make_video
from tests.realtime.sinks.parts import (
    SUFFIXES,
    TICKS,
    TIME_BASE,
    BrokenStream,
    context,
    fill_with_noise,
    read,
    rendered,
    tolerance,
    write_frames,
)


def test_no_frame_no_file(tmp_path):
    with VideoFileSink(tmp_path / "a.mp4") as sink:
        sink.open(context())
    assert list(tmp_path.iterdir()) == []


def test_overwriting_changes_nothing_until_there_is_a_frame(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier output")
    with pytest.raises(UsageError) as caught:
        VideoFileSink(path).open(context())
    assert (caught.value.reason, caught.value.exit_code) == ("EXISTS", 2)
    with VideoFileSink(path, overwrite=True) as sink:
        sink.open(context())
    assert path.read_bytes() == b"earlier output"
    with VideoFileSink(path, overwrite=True) as sink:
        sink.open(context())
        write_frames(sink, 5)
    assert len(read(path).pts_s) == 5


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "absent" / "a.mp4", "NOT_FOUND"),
        (lambda folder: make_video(folder / "in.mp4") / "a.mp4", "NOT_FOUND"),
        (lambda folder: folder / ("n" * 300 + ".mp4"), "BAD_NAME"),
        (lambda folder: folder / "a.avi", "CODEC_UNSUPPORTED"),
    ],
)  # fmt: skip
def test_places_that_cannot_be_written(tmp_path, make, reason):
    with pytest.raises(SinkError) as caught:
        VideoFileSink(make(tmp_path)).open(context())
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    before = os.geteuid()
    if before == 0:  # root may write everywhere
        os.seteuid(65534)
    try:
        with pytest.raises(SinkError) as caught:
            VideoFileSink(tmp_path / "a.mp4").open(context())
    finally:
        os.seteuid(before)
    assert caught.value.reason == "PERMISSION_DENIED"


def test_the_input_is_never_overwritten(tmp_path):
    source = make_video(tmp_path / "in.mp4")
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    for path in (source, link):
        with pytest.raises(UsageError) as caught:
            VideoFileSink(path, overwrite=True).open(context(path=source))
        assert caught.value.reason == "SAME_FILE"
    assert frame_number(read(source).first) == 0


def test_what_the_encoder_refuses(tmp_path):
    too_wide = (20_000, 64)  # H.264 ends at 16384
    sink = VideoFileSink(tmp_path / "a.mp4")
    sink.open(context(too_wide))
    with pytest.raises(SinkError) as caught:
        write_frames(sink, 1, size=too_wide)
    sink.close()
    assert caught.value.reason == "CODEC_UNSUPPORTED"
    assert "h264" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("written", [0, 3])
def test_errors_of_the_encoders_own_library(tmp_path, written):
    sink = VideoFileSink(tmp_path / "a.mp4", EncodeOptions(preset="ultrafast"))
    sink.open(context())
    write_frames(sink, written)
    sink._stream = BrokenStream(sink._stream)
    (item,) = rendered(1)
    fails = sink.close if written else lambda: sink.write(item)
    with pytest.raises(SinkError, match="external library"):
        fails()
    sink.close()
    assert written or list(tmp_path.iterdir()) == []


WRITER = """
import sys
from tests.realtime.sinks.parts import context, rendered
from rtseg.realtime.sinks.video import VideoFileSink
sink = VideoFileSink(sys.argv[1])
sink.open(context())
for item in rendered(100000):
    sink.write(item)
    if item.frame.index == 200:
        print("going", flush=True)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_killed_writer_leaves_a_file_that_plays(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    root = Path(__file__).parents[3]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=root, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"going\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    times = read_what_plays(path)
    # 200 frames are 8 s; a second may be in the fragment that was being made, and a few
    # frames in the encoder
    assert len(times) >= 170
    assert all(abs(t - i * TICKS * TIME_BASE) <= tolerance(suffix) for i, t in enumerate(times))


def read_what_plays(path):
    times = []
    with av.open(str(path)) as file:
        try:
            for frame in file.decode(video=0):
                times.append(frame.pts * frame.time_base)
        except av.error.FFmpegError:
            pass  # a fragment cut in the middle: what came before counts
    return times


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_a_file_that_plays(tiny_disk, suffix):
    path = tiny_disk / f"a{suffix}"
    sink = VideoFileSink(path, EncodeOptions(crf=30))
    sink.open(context((320, 240)))
    written = []
    with pytest.raises(SinkError) as caught:
        fill_with_noise(sink, written)
    assert caught.value.reason == "NO_SPACE"
    assert "disk is full" in str(caught.value)
    with pytest.raises(SinkError):
        sink.write(written[-1])
    sink.close()
    sink.close()
    times = read_what_plays(path)
    assert len(times) >= 20
    assert times == sorted(times)
    assert len(times) > len(written) - 60


def test_a_disk_that_is_full_only_at_the_end(tiny_disk):
    """The file's index does not fit any more: what was written as fragments stays as it is."""
    path = tiny_disk / "a.mp4"
    sink = VideoFileSink(path)
    sink.open(context())
    write_frames(sink, 200)
    fill_up(tiny_disk / "filler")
    with pytest.raises(SinkError) as caught:
        sink.close()
    sink.close()
    assert caught.value.reason == "NO_SPACE"
    assert len(read_what_plays(path)) >= 150


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_is_full_from_the_start_is_left_without_a_file(tiny_disk, suffix):
    """A header alone plays nowhere."""
    fill_up(tiny_disk / "filler")
    with (tiny_disk / "filler").open("r+b") as filler:
        filler.truncate(filler.seek(0, os.SEEK_END) // 4096 * 4096 - 4096)
    sink = VideoFileSink(tiny_disk / f"a{suffix}")
    sink.open(context((320, 240)))

    def write_noise():
        random = np.random.default_rng(0)
        for item in rendered(60, size=(320, 240)):
            luma = np.frombuffer(item.picture.planes[0], np.uint8)
            luma[:] = random.integers(0, 255, luma.shape, np.uint8)
            sink.write(item)

    with pytest.raises(SinkError) as caught:
        write_noise()
    sink.close()
    assert caught.value.reason == "NO_SPACE"
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"]


def fill_up(path):
    """Write until not one more byte fits."""
    with path.open("wb", buffering=0) as filler:
        for block in (bytes(4096), b"x"):
            try:
                while True:
                    filler.write(block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_dev_full(tmp_path):
    link = tmp_path / "a.mp4"
    link.symlink_to("/dev/full")
    sink = VideoFileSink(link, overwrite=True)
    sink.open(context())

    def write_and_close():  # it shows at the first fragment, or when the file is closed
        try:
            write_frames(sink, 100)
        finally:
            sink.close()

    with pytest.raises(SinkError) as caught:
        write_and_close()
    assert caught.value.reason == "NO_SPACE"


def test_standard_output_is_matroska(tmp_path):
    script = WRITER.replace("rendered(100000)", "rendered(12)") + "\nsink.close()\n"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, "-"], cwd=root, capture_output=True, check=True, timeout=60
    )
    path = tmp_path / "a.mkv"
    path.write_bytes(done.stdout)
    assert len(read(path).pts_s) == 12


def test_a_reader_that_goes_away(tmp_path):
    root = Path(__file__).parents[3]
    script = WRITER + "\nsink.close()\n"
    writer = subprocess.Popen(
        [sys.executable, "-c", script, "-"], cwd=root, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdout is not None
    writer.stdout.read(2000)
    writer.stdout.close()
    began = time.monotonic()
    _, said = writer.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert b"the reader has gone" in said


def test_numbers_that_ffmpeg_has_no_room_for(tmp_path):
    with pytest.raises(SinkError, match="cannot encode") as caught:
        VideoFileSink(tmp_path / "a.mkv").open(context(time_base=Fraction(1, 1 << 40)))
    assert caught.value.reason == "CODEC_UNSUPPORTED"
    assert not list(tmp_path.iterdir())
