"""Pipes that a camera feeds (``--live``), and formats that name no times (``--fps``)."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from rtseg.realtime.arguments import build_parser
from rtseg.realtime.early import can_be_early
from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame
from rtseg.realtime.sources.limited import LimitedSource
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pipe import told_when_behind
from rtseg.realtime.sources.resolve import open_source, parse_source
from rtseg.realtime.sources.stdin import StdinSource
from tests.media import make_video
from tests.realtime.parts import GraySource
from tests.realtime.sources.clips import numbers, read

PAUSE_S = 0.5


def bare(folder: Path, frames: int = 40) -> list[bytes]:
    """The pictures of a bare H.264 stream, one by one."""
    path = make_video(folder / "camera.h264", frames, gop=5)
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends; the test closes the writer's."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_a_live_pipe_keeps_the_times_of_arrival(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    pictures = bare(tmp_path)
    seen = threading.Event()

    def feed() -> None:
        os.write(writer, b"".join(pictures[:30]))
        seen.wait(60)
        time.sleep(PAUSE_S)
        os.write(writer, b"".join(pictures[30:]))
        os.close(writer)

    feeder = threading.Thread(target=feed)
    feeder.start()
    times = []
    with StdinSource(SourceOptions(live=True, fps=15), fd=reader) as source:
        assert source.info.live
        assert source.info.fps == 15
        for frame in source.frames():
            times.append(frame.pts_s)
            seen.set()
    feeder.join()
    assert len(times) == 40
    # Twenty-five a second would be 0.04 each.
    assert max(b - a for a, b in itertools.pairwise(times)) >= PAUSE_S * 0.9


def test_a_named_pipe_is_live_where_asked(tmp_path: Path) -> None:
    fifo = tmp_path / "camera"
    os.mkfifo(fifo)
    data = make_video(tmp_path / "a.ts", 25, gop=5, audio=True, format="mpegts").read_bytes()
    feeder = threading.Thread(target=fifo.write_bytes, args=(data,))
    feeder.start()
    with open_source(str(fifo), SourceOptions(live=True, duration_s=60)) as source:
        assert isinstance(source, LimitedSource)  # by the clock, as of a camera
        assert source.info.live
        assert source.info.passthrough == ()
        assert sum(1 for _ in source.frames()) == 25
    feeder.join()


def test_a_live_pipe_that_stalls_is_lost(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"".join(bare(tmp_path)))
    source = StdinSource(SourceOptions(live=True, timeout_s=2), fd=reader)
    source.open()
    with pytest.raises(SourceError, match=r"no data within 2 s \(--timeout\)") as caught:
        list(source.frames())
    assert caught.value.reason == "TIMEOUT"
    source.close()
    os.close(writer)


def test_an_engine_is_not_opened_early_for_a_live_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "camera"
    os.mkfifo(fifo)
    for words, early in ((["--live"], False), ([], True)):
        options = build_parser().parse(["--source", str(fifo), *words])
        assert can_be_early(options, parse_source(str(fifo))) is early


def test_a_file_says_that_it_is_no_pipe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_video(tmp_path / "a.mp4", 10)
    with open_source(str(path), SourceOptions(live=True)) as source:
        assert not source.info.live
    assert "--live has no effect, it is no pipe" in caplog.text


def slowly(frames: Iterator[Frame], count: int, pause_s: float) -> int:
    """Take frames as a loop that is too slow does; return how many there were."""
    taken = 0
    for _ in itertools.islice(frames, count):
        taken += 1
        time.sleep(pause_s)
    return taken


@pytest.mark.parametrize("named", [True, False], ids=["named pipe", "standard input"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "file"])
def test_a_pipe_that_is_faster_than_the_loop_is_told_once(
    tmp_path: Path,
    pipe: tuple[int, int],
    named: bool,
    live: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rtseg.realtime.sources.pipe.BEHIND_S", 0.0)
    reader, writer = pipe
    if named:
        os.close(writer)
        os.mkfifo(tmp_path / "fifo")
        keeps_open = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    os.write(writer, make_video(tmp_path / "a.ts", 25, format="mpegts").read_bytes())
    options = SourceOptions(live=live)
    with (
        open_source(str(tmp_path / "fifo"), options) if named else StdinSource(options, reader)
    ) as source:
        os.close(writer)
        assert slowly(source.frames(), 25, 0.1) == 25
    if named:
        os.close(keeps_open)
    said = [line for line in caplog.messages if "faster than it is done" in line]
    assert len(said) == (0 if live else 1)
    assert all("--live shows the newest" in line for line in said)


def test_a_reader_that_keeps_up_is_told_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Waiting for the writer is not the loop's."""

    def writer() -> Iterator[Frame]:
        for frame in GraySource(5, fps=25).frames():
            time.sleep(0.2)
            yield frame

    assert slowly(told_when_behind(writer(), "pipe", 0.05), 5, 0.0) == 5
    assert not caplog.messages


# -- formats without times ---------------------------------------------------------------

NAMELESS = {"h264": "libx264", "hevc": "libx265", "mjpeg": "mjpeg"}


@pytest.mark.parametrize("suffix", NAMELESS)
def test_the_rate_asked_for_is_that_of_a_format_without_times(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    codec = NAMELESS[suffix]
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = make_video(tmp_path / f"a.{suffix}", 20, codec=codec, pixel_format=pixel_format)
    with open_source(str(path), SourceOptions(fps=10)) as source:
        frames = list(source.frames())
        assert source.info.fps == 10
    assert [frame.pts_s for frame in frames] == pytest.approx([n / 10 for n in range(20)])
    assert all(frame.lasts_s in (None, Fraction(1, 10)) for frame in frames)
    assert not caplog.records
    # Half a second in is the sixth picture.
    assert numbers(read(path, fps=10, start_s=0.5, duration_s=0.3)) == [5, 6, 7]
    again = read(path, fps=10, loop=2)
    assert numbers(again) == [*range(20), *range(20)]
    assert again[20].pts_s == pytest.approx(2.0)


def test_standard_input_has_the_rate_asked_for_too(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"".join(bare(tmp_path)))
    os.close(writer)
    with StdinSource(SourceOptions(fps=Fraction(30000, 1001)), fd=reader) as source:
        times = [frame.pts_s for frame in source.frames()]
    assert times[-1] == pytest.approx(39 * 1001 / 30000, abs=1e-4)


def test_a_pipe_with_times_of_its_own_keeps_them(
    tmp_path: Path, pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    os.write(writer, make_video(tmp_path / "a.ts", 25, format="mpegts").read_bytes())
    os.close(writer)
    with StdinSource(SourceOptions(fps=10), fd=reader) as source:
        assert source.info.fps == 25
    assert "a video keeps its own" in caplog.text
