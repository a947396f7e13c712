"""What holds for every sink."""

from __future__ import annotations

import json
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
from rtseg.realtime.sinks.null import NullSink
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


SINKS: dict[str, tuple[Callable[[Path], Sink], str, Callable[[Path], int]]] = {
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
    return SINKS[request.param]


def test_ten_frames_come_back(kind, tmp_path):
    make, name, count = kind
    sink = make(tmp_path / name)
    with sink as entered:
        assert entered is sink
        sink.open(context())
        write_frames(sink, 10)
        sink.idle()
        sink.write_packets(())
    assert count(tmp_path / name) == 10


def test_it_has_a_name_and_says_what_it_wants(kind, tmp_path):
    sink = kind[0](tmp_path / kind[1])
    assert sink.name
    assert isinstance(sink.wants_picture, bool)
    assert not sink.presents


def test_close_any_number_of_times_even_unopened(kind, tmp_path):
    make, name, count = kind
    make(tmp_path / name).close()
    sink = make(tmp_path / name)
    sink.open(context())
    write_frames(sink, 3)
    sink.close()
    sink.close()
    assert count(tmp_path / name) == 3


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
    assert kind[2](tmp_path / kind[1]) == 1


def test_an_exception_leaves_what_was_written(kind, tmp_path):
    make, name, count = kind

    def fail_in_the_middle():
        with make(tmp_path / name) as sink:
            sink.open(context())
            write_frames(sink, 7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_in_the_middle()
    assert count(tmp_path / name) == 7


def test_it_lives_in_any_one_thread(kind, tmp_path):
    make, name, count = kind

    def run():
        with make(tmp_path / name) as sink:
            sink.open(context())
            write_frames(sink, 4)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert count(tmp_path / name) == 4


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
