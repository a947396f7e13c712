"""What holds for every sink."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from rtseg.realtime.errors import SinkError
from rtseg.realtime.sinks.images import ImageSink
from rtseg.realtime.sinks.jsonl import JsonlSink
from rtseg.realtime.sinks.labels import LabelSink, LabelVideoSink
from rtseg.realtime.sinks.network import parse_network
from rtseg.realtime.sinks.null import NullSink
from rtseg.realtime.sinks.publisher import NetworkSink
from rtseg.realtime.sinks.segments import SegmentedVideoSink, SegmentOptions
from rtseg.realtime.sinks.sink import Sink
from rtseg.realtime.sinks.video import VideoFileSink
from tests.realtime.sinks.parts import context, rendered, write_frames


def count_files(path: Path) -> int:
    return len(list(path.parent.glob("*.png")))


def count_video(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def count_lines(path: Path) -> int:
    return len([json.loads(line) for line in path.read_text().splitlines()])


def count_segments(path: Path) -> int:
    return sum(count_video(segment) for segment in path.parent.glob(f"{path.stem}_*{path.suffix}"))


def page(path: Path) -> Sink:
    for name in ("uvicorn", "starlette", "websockets"):
        pytest.importorskip(name, reason="the live page needs rt-seg[web]")
    from rtseg.realtime.sinks.web import WebSink
    from rtseg.realtime.web.address import WebAddress

    return WebSink(WebAddress("127.0.0.1", 0))


def to_nobody(path: Path) -> Sink:
    """MPEG-TS to a port where nobody listens: sent all the same, as datagrams are."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return NetworkSink(parse_network(f"udp://127.0.0.1:{port}"))


# What cannot be counted afterwards: live outputs leave pictures out for who is slow.
SINKS: dict[str, tuple[Callable[[Path], Sink], str, Callable[[Path], int] | None]] = {
    "page": (page, "x", None),
    "network": (to_nobody, "x", None),
    "mp4": (VideoFileSink, "a.mp4", count_video),
    "mov": (VideoFileSink, "a.mov", count_video),
    "mkv": (VideoFileSink, "a.mkv", count_video),
    "segments": (
        lambda path: SegmentedVideoSink(path, SegmentOptions(length_s=Fraction(1))),
        "a.mp4",
        count_segments,
    ),
    "images": (ImageSink, "a_%06d.png", count_files),
    "labels": (lambda path: LabelSink(path.parent), "x", count_files),
    "label video": (LabelVideoSink, "ids.mkv", count_video),
    "jsonl": (JsonlSink, "a.jsonl", count_lines),
}


@pytest.fixture(params=SINKS)
def kind(request):
    """How to make a sink, the name of its file, and what raises unless it holds n frames."""
    make, name, count = SINKS[request.param]

    def holds(path: Path, frames: int) -> None:
        if count is not None:
            assert count(path) == frames

    return make, name, holds


def test_ten_frames_come_back(kind, tmp_path):
    make, name, holds = kind
    sink = make(tmp_path / name)
    with sink as entered:
        assert entered is sink
        sink.open(context())
        write_frames(sink, 10)
        sink.idle()
        sink.write_packets(())
    holds(tmp_path / name, 10)


def test_it_has_a_name_and_says_what_it_wants(kind, tmp_path):
    sink = kind[0](tmp_path / kind[1])
    assert sink.name
    assert isinstance(sink.wants_picture, bool)
    assert sink.presents == (kind[0] is page)
    sink.close()


def test_close_any_number_of_times_even_unopened(kind, tmp_path):
    make, name, holds = kind
    make(tmp_path / name).close()
    sink = make(tmp_path / name)
    sink.open(context())
    write_frames(sink, 3)
    sink.close()
    sink.close()
    holds(tmp_path / name, 3)


def test_writing_after_close_is_an_error(kind, tmp_path):
    sink = kind[0](tmp_path / kind[1])
    items = list(rendered(2))
    with pytest.raises(SinkError, match="Allowed: writing between open and close"):
        sink.write(items[0])
    sink.open(context())
    sink.write(items[0])
    sink.close()
    with pytest.raises(SinkError, match="Allowed: writing between open and close"):
        sink.write(items[1])
    kind[2](tmp_path / kind[1], 1)


def test_an_exception_leaves_what_was_written(kind, tmp_path):
    make, name, holds = kind

    def fail_in_the_middle():
        with make(tmp_path / name) as sink:
            sink.open(context())
            write_frames(sink, 7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_in_the_middle()
    holds(tmp_path / name, 7)


def test_it_lives_in_any_one_thread(kind, tmp_path):
    make, name, holds = kind

    def run():
        with make(tmp_path / name) as sink:
            sink.open(context())
            write_frames(sink, 4)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    holds(tmp_path / name, 4)


def test_frames_are_not_written_to(kind, tmp_path):
    def state(item):
        video, picture = item.frame.video, item.picture
        return (
            [bytes(plane) for plane in (*video.planes, *picture.planes)],
            (video.pts, picture.pts, picture.time_base, picture.colorspace),
            item.labels.tobytes(),
            dict(item.stages_ms),
        )

    with kind[0](tmp_path / kind[1]) as sink:
        sink.open(context())
        for item in rendered(3):
            before = state(item)
            sink.write(item)
            assert state(item) == before


def test_what_it_says_of_itself(kind, tmp_path):
    """Nothing, or the same name; counts of what went out never exceed what was written."""
    make, name, _ = kind
    with make(tmp_path / name) as sink:
        sink.open(context())
        write_frames(sink, 5)
        counts = sink.counts()
    summary = sink.summary()
    assert summary is None or (summary.name == sink.name and summary.lines)
    assert counts is None or 0 <= counts.sent + sum(counts.dropped.values()) <= 5


def test_null_counts_and_minds_its_order():
    sink = NullSink()
    items = list(rendered(2))
    with pytest.raises(SinkError):
        sink.write(items[0])
    with sink:
        sink.open(context())
        sink.write(items[0])
    assert sink.frames == 1
    with pytest.raises(SinkError):
        sink.write(items[1])
    sink.close()
