"""Several streams in one loop: fair, and what happens to one of them stays with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from rtseg.engines.errors import EngineError
from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import SinkError, SourceError
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.pipeline import SharedLoop
from rtseg.realtime.stream import Stream
from tests.realtime.parts import BrightnessEngine, GraySource, ListSink, PlainPainter


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not left


def stream(source: GraySource, *sinks: ListSink, name: str = "a") -> Stream:
    return Stream(source, PlainPainter(), sinks, name=name)


def indexes(sink: ListSink) -> list[int]:
    return [item.frame.index for item in sink.items]


@pytest.mark.parametrize("max_batch", [1, 4])
def test_files_lose_no_frame_and_keep_their_order_and_labels(max_batch: int) -> None:
    sinks = [ListSink(name=str(n)) for n in range(3)]
    counts = (150, 40, 200)
    streams = [
        stream(GraySource(count), sink, name=sink.name)
        for count, sink in zip(counts, sinks, strict=True)
    ]
    engine = BrightnessEngine(requests=3, max_batch=max_batch)
    SharedLoop(streams, engine).run()
    for count, sink, each in zip(counts, sinks, streams, strict=True):
        assert each.failure is None
        assert indexes(sink) == list(range(count))
        for item in sink.items:  # batches must not mix up whose labels are whose
            assert (item.labels == (item.frame.index > 127)).all()
        profiler = each.profiler
        assert (profiler.frames_in, profiler.frames_out, profiler.dropped) == (count, count, {})
        assert sink.context is not None
        assert sink.context.source.stem == sink.name
        assert sink.closed == 1
    assert max(engine.batches) <= max_batch
    assert sum(engine.batches) == sum(counts)
    if max_batch > 1:
        assert max(engine.batches) > 1


def test_a_fast_live_source_does_not_starve_a_slow_one() -> None:
    """120 and 20 frames/s into an engine of 40: they take turns; by rate it were six to one."""
    fast, slow = ListSink(name="fast"), ListSink(name="slow")
    streams = [
        stream(GraySource(240, fps=120, live=True), fast, name="fast"),
        stream(GraySource(40, fps=20, live=True), slow, name="slow"),
    ]
    engine = BrightnessEngine(infer_s=0.025, requests=4)
    SharedLoop(streams, engine).run()
    assert len(fast.items) <= 2 * len(slow.items)
    assert set(streams[0].profiler.dropped) == {"newer_frame"}
    assert engine.most_in_flight == 1
    for each in streams:
        profiler = each.profiler
        assert profiler.frames_out + sum(profiler.dropped.values()) == profiler.frames_in


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_breaks_ends_alone_and_what_it_gave_is_written(live: bool) -> None:
    broken, good = ListSink(name="broken"), ListSink(name="good")
    sources = GraySource(50, live=live, fps=200, fail_at=20), GraySource(120, live=live, fps=200)
    streams = [stream(sources[0], broken, name="b"), stream(sources[1], good, name="g")]
    SharedLoop(streams, BrightnessEngine()).run()
    assert isinstance(streams[0].failure, SourceError)
    assert streams[1].failure is None
    assert broken.closed == good.closed == 1
    if live:
        assert broken.items
        assert streams[1].profiler.frames_in == 120
    else:
        assert indexes(broken) == list(range(20))
        assert indexes(good) == list(range(120))
    assert all(source.closed.is_set() for source in sources)


def test_a_source_that_does_not_open_leaves_the_others_alone() -> None:
    bad, good = ListSink(name="bad"), ListSink(name="good")
    streams = [
        stream(GraySource(5, fail_open=True), bad, name="b"),
        stream(GraySource(30), good, name="g"),
    ]
    SharedLoop(streams, BrightnessEngine()).run()
    assert isinstance(streams[0].failure, SourceError)
    assert bad.context is None
    assert indexes(good) == list(range(30))


class _SlowToOpen(GraySource):
    """Opens only once it is let; whoever closes it meanwhile is not heard, as a file does not."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.opening, self.let = threading.Event(), threading.Event()

    def open(self) -> SourceInfo:
        self.opening.set()
        self.let.wait(10)
        return super().open()


def test_a_stop_while_a_source_is_opened_begins_no_output() -> None:
    slow, sink, other = _SlowToOpen(30), ListSink(name="slow"), ListSink(name="other")
    streams = [
        stream(slow, sink, name="s"),
        stream(GraySource(10_000, live=True), other, name="o"),
    ]
    loop = SharedLoop(streams, BrightnessEngine())

    def act() -> None:
        slow.opening.wait(10)
        while not other.items:
            time.sleep(0.01)
        loop.stop()
        time.sleep(0.2)
        slow.let.set()

    acting = threading.Thread(target=act)
    acting.start()
    loop.run()
    acting.join()
    assert sink.context is None
    assert sink.closed  # a tile of a grid waits for that word
    assert streams[0].failure is None


def test_every_output_gets_all_the_sound_after_the_last_frame() -> None:
    class Sounding(GraySource):
        left: ClassVar = ["a", "b"]

        def remaining_packets(self) -> tuple[Any, ...]:
            given, self.left = tuple(self.left), []
            return given

    sinks = [ListSink(name=str(n), write_s=0.01 * n) for n in range(3)]
    SharedLoop([stream(Sounding(5), *sinks)], BrightnessEngine()).run()
    assert [sink.trailing for sink in sinks] == [["a", "b"]] * 3


def test_a_source_that_stalls_for_ever_holds_up_nobody_and_ends_with_the_loop() -> None:
    stalled, good = ListSink(name="stalled"), ListSink(name="good")
    streams = [
        stream(GraySource(50, live=True, fps=100, hang_at=5), stalled, name="s"),
        stream(GraySource(100), good, name="g"),
    ]
    loop = SharedLoop(streams, BrightnessEngine())

    def while_running() -> None:
        if good.closed:
            loop.stop()

    loop.run(while_running)
    assert indexes(good) == list(range(100))
    assert stalled.items
    assert stalled.closed == 1
    assert all(each.failure is None for each in streams)


def test_a_stuck_output_of_a_file_holds_up_that_file_alone() -> None:
    slow, good = ListSink(name="slow", write_s=0.2), ListSink(name="good")
    streams = [stream(GraySource(1000), slow, name="s"), stream(GraySource(200), good, name="g")]
    loop = SharedLoop(streams, BrightnessEngine())
    seen: list[int] = []

    def while_running() -> None:
        if good.closed:
            seen.append(len(slow.items))
            loop.stop()

    loop.run(while_running)
    assert indexes(good) == list(range(200))
    assert seen[0] < 100


def test_a_broken_output_ends_its_stream_and_not_the_others() -> None:
    bad, good = ListSink(name="bad", fail_at=3), ListSink(name="good")
    streams = [stream(GraySource(100_000), bad, name="b"), stream(GraySource(80), good, name="g")]
    SharedLoop(streams, BrightnessEngine()).run()
    assert isinstance(streams[0].failure, SinkError)
    assert streams[1].failure is None
    assert indexes(good) == list(range(80))
    assert bad.closed == 1


def test_a_broken_engine_ends_them_all_and_finishes_the_outputs() -> None:
    sinks = ListSink(name="a"), ListSink(name="b")
    streams = [stream(GraySource(100_000), sink, name=sink.name) for sink in sinks]
    with pytest.raises(EngineError, match="device was lost"):
        SharedLoop(streams, BrightnessEngine(fail_at=30)).run()
    assert [sink.closed for sink in sinks] == [1, 1]


@pytest.mark.parametrize("live", [False, True])
def test_stop_and_quit_end_them_all_in_order(live: bool) -> None:
    for way in ("stop", "quit"):
        sinks = ListSink(name="a"), ListSink(name="b")
        streams = [
            stream(GraySource(100_000, live=live, fps=100), sink, name=sink.name) for sink in sinks
        ]
        controls = Controls()
        loop = SharedLoop(streams, BrightnessEngine(infer_s=0.01), controls=controls)
        end = loop.stop if way == "stop" else controls.request_quit
        timer = threading.Timer(0.3, end)
        timer.start()
        loop.run()
        timer.join()
        for sink in sinks:
            assert sink.items
            assert sink.closed == 1


def test_pause_and_step_act_on_every_stream() -> None:
    controls = Controls()
    controls.press("space")
    sinks = ListSink(name="a"), ListSink(name="b")
    for sink in sinks:
        sink.presents = True  # somebody looks on: files are played, and stand still
    streams = [
        Stream(GraySource(50), PlainPainter(), [sink], controls=controls, name=sink.name)
        for sink in sinks
    ]
    loop = SharedLoop(streams, BrightnessEngine(), controls=controls)
    begin_s = time.monotonic()
    pressed = []

    def while_running() -> None:
        late_s = time.monotonic() - begin_s
        if late_s > 0.5 and not pressed:
            pressed.append(True)
            controls.press(".")
            controls.press(".")
        if late_s > 1.0:
            loop.stop()

    loop.run(while_running)
    assert [indexes(sink) for sink in sinks] == [[0, 1], [0, 1]]


def test_threads_are_named_after_their_streams() -> None:
    sink = ListSink(name="x")
    seen: set[str] = set()
    streams = [stream(GraySource(60), sink, name="cam1"), stream(GraySource(60), ListSink())]
    loop = SharedLoop(streams, BrightnessEngine(infer_s=0.005))
    loop.run(lambda: seen.update(thread.name for thread in threading.enumerate()))
    assert {"rtseg-capture-cam1", "rtseg-render-cam1", "rtseg-infer", "rtseg-collect"} <= seen


def test_a_loop_needs_a_stream() -> None:
    with pytest.raises(ValueError, match="at least one stream"):
        SharedLoop([], BrightnessEngine())
