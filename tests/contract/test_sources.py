"""What every source keeps to, whatever it reads."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.source import Source
from rtseg.realtime.sources.stdin import StdinSource
from tests.data import find_shared_data, shared_data
from tests.media import make_images, make_video

Make = Callable[[Path], Source]


def from_text(text: Callable[[Path], object], **options: object) -> Make:
    return lambda folder: open_source(str(text(folder)), SourceOptions(**options))  # type: ignore[arg-type]


def video(name: str = "drive.mp4", **how: object) -> Callable[[Path], Path]:
    return lambda folder: make_video(folder / name, **how)  # type: ignore[arg-type]


def piped(folder: Path) -> Source:
    path = make_video(folder / "drive.ts", format="mpegts")
    return StdinSource(SourceOptions(), fd=os.open(path, os.O_RDONLY))


SOURCES: dict[str, Make] = {
    "mp4": from_text(video(audio=True)),
    "mkv": from_text(video("drive.mkv", audio=True, b_frames=2)),
    "mpegts": from_text(video("drive.ts", b_frames=2)),
    "mpeg4 avi": from_text(video("drive.avi", codec="mpeg4")),
    "raw mjpeg": from_text(video("drive.mjpeg", codec="mjpeg", pixel_format="yuvj420p")),
    "10 bit": from_text(video(codec="libx265", pixel_format="yuv420p10le")),
    "odd size": from_text(video(size=(97, 65), pixel_format="yuv444p")),
    "rotated": from_text(video(rotation=90)),
    "variable rate": from_text(video(frames=6, vfr_ms=[0, 40, 90, 400, 410, 900])),
    "part": from_text(video(frames=40), start_s=0.3, duration_s=0.5),
    "three laps": from_text(video(audio=True), loop=3),
    "folder": from_text(lambda folder: make_images(folder / "pictures")),
    "numbered": from_text(lambda folder: make_images(folder / "n") / "frame_%06d.png"),
    "glob": from_text(lambda folder: make_images(folder / "g") / "*.png", fps=Fraction(10)),
    "picture": from_text(lambda folder: make_images(folder / "p", 1) / "frame_000000.png"),
    "stdin": piped,
    "testsrc": from_text(lambda _: "testsrc", duration_s=0.5),
    "lavfi": from_text(lambda _: "lavfi:color=red:size=32x32:rate=10:duration=1"),
}


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    made = SOURCES[request.param](tmp_path)
    yield made
    made.close()


def test_frames_match_what_the_source_says_of_itself(source: Source) -> None:
    info = source.open()
    assert source.info is info
    assert source.open() is info
    frames = list(source.frames())

    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[0].pts == 0
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
    assert {frame.time_base for frame in frames} == {info.time_base}
    assert {(f.video.width, f.video.height) for f in frames} == {(info.width, info.height)}
    assert all(frame.video.rotation == 0 for frame in frames)
    assert all(frame.decode_ms >= 0 and frame.captured_ns > 0 for frame in frames)
    assert info.frames is None or info.frames == len(frames)
    assert info.fps is None or info.fps > 0
    assert info.stem
    assert not info.live
    if info.duration_s is not None and info.fps is not None:
        assert frames[-1].pts_s < info.duration_s + 2 / float(info.fps)


def test_sound_and_subtitles_never_step_back(source: Source) -> None:
    info = source.open()
    packets = [packet for frame in source.frames() for packet in frame.packets]
    packets += source.remaining_packets()
    assert bool(packets) == bool(info.passthrough)
    for stream in info.passthrough:
        stamps = [packet.dts for packet in packets if packet.stream_index == stream.index]
        assert stamps
        assert all(stamp is not None for stamp in stamps)
        assert all(a < b for a, b in itertools.pairwise(stamps))  # type: ignore[operator]


def test_close_ends_the_frames_and_may_be_repeated(source: Source) -> None:
    source.open()
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_nothing_works_before_open_or_after_close(source: Source) -> None:
    with pytest.raises(SourceError) as caught:
        list(source.frames())
    assert caught.value.reason == "NOT_OPEN"
    with pytest.raises(SourceError):
        _ = source.info
    source.close()
    with pytest.raises(SourceError) as caught:
        source.open()
    assert caught.value.reason == "CLOSED"


def test_closing_from_another_thread_while_reading(source: Source) -> None:
    seen: list[Frame] = []
    errors: list[BaseException] = []
    started = threading.Event()

    def read() -> None:
        try:
            for frame in source.frames():
                seen.append(frame)
                started.set()
        except BaseException as error:
            errors.append(error)

    source.open()
    thread = threading.Thread(target=read)
    thread.start()
    assert started.wait(60)
    source.close()
    thread.join(8)  # a second is promised; the time limits are 10 and more
    assert not thread.is_alive()
    assert not errors
    # What was handed out stays readable after the source is gone.
    assert seen[0].video.to_ndarray(format="gray").size


def test_twenty_rounds_leave_no_thread_and_no_open_file(tmp_path: Path) -> None:
    process = psutil.Process()
    make = SOURCES["mp4"]

    def round_trip() -> None:
        with make(tmp_path) as source:
            next(source.frames())

    round_trip()
    threads, files = process.num_threads(), process.num_fds()
    for _ in range(20):
        round_trip()
    assert process.num_fds() <= files
    assert wait_for(lambda: process.num_threads() <= threads)


def wait_for(condition: Callable[[], bool], seconds: float = 2) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# -- every clip of the shared data, against a plain loop over PyAV ------------------------


def clips() -> list[str]:
    root = find_shared_data()
    if root is None or not (root / "videos").is_dir():
        return []
    return sorted(str(p.relative_to(root)) for p in (root / "videos").rglob("*.*"))


@contextmanager
def reference(path: Path) -> Iterator[Iterator[av.VideoFrame]]:
    with av.open(str(path)) as container:
        yield container.decode(container.streams.best("video"))


@pytest.mark.skipif(not clips(), reason="needs the project's shared data (set RTSEG_DATA)")
@pytest.mark.parametrize("clip", clips())
def test_a_clip_decodes_bit_exactly_and_completely(clip: str) -> None:
    path = shared_data(clip)
    with ExitStack() as stack:
        source = stack.enter_context(open_source(str(path)))
        expected = stack.enter_context(reference(path))
        info = source.info
        start: Fraction | None = None
        count = 0
        for mine, plain in itertools.zip_longest(source.frames(), expected):
            assert mine is not None, f"frame {count} is missing"
            assert plain is not None, f"frame {count} is one too many"
            assert plain.pts is not None
            assert plain.time_base is not None
            at = plain.pts * plain.time_base
            start = at if start is None else start
            assert mine.pts * mine.time_base == at - start
            assert mine.video.format.name == plain.format.name
            compare(mine.video, plain)
            count += 1
        assert (info.width, info.height) == (mine.video.width, mine.video.height)
        assert info.frames is None or abs(info.frames - count) <= 1
        assert count > 1


def samples(plane: av.video.plane.VideoPlane, bits: int) -> NDArray[np.uint8]:
    """Return the bytes of a plane of a planar format, without the padding of each row."""
    used = plane.width * (2 if bits > 8 else 1)
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, :used]


def compare(mine: av.VideoFrame, plain: av.VideoFrame) -> None:
    """Check that two frames hold the same samples, one of them perhaps turned."""
    if plain.rotation:
        turned = np.rot90(plain.to_ndarray(format="gray"), plain.rotation // 90)
        assert np.array_equal(mine.to_ndarray(format="gray"), turned)
        return
    assert (mine.width, mine.height) == (plain.width, plain.height)
    bits = plain.format.components[0].bits
    for a, b in zip(mine.planes, plain.planes, strict=True):
        assert np.array_equal(samples(a, bits), samples(b, bits))
