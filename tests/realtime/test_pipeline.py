"""The loop itself: nothing lost from a file, nothing old from a camera, orderly ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from rtseg.engines.errors import EngineError
from rtseg.realtime.errors import RealtimeError, SinkError, SourceError
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.sinks.sink import SinkContext
from rtseg.realtime.throttle import FlowOptions
from tests.realtime.parts import BrightnessEngine, GraySource, ListSink, PlainPainter


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not left


def run(
    source: GraySource,
    engine: BrightnessEngine,
    *sinks: ListSink,
    flow: FlowOptions | None = None,
) -> Pipeline:
    pipeline = Pipeline(source, engine, PlainPainter(), sinks, flow=flow)
    pipeline.run()
    return pipeline


def all_frames_accounted(pipeline: Pipeline) -> bool:
    """Whether every frame that came in went out or was counted with a reason."""
    profiler = pipeline.profiler
    return profiler.frames_in == profiler.frames_out + sum(profiler.dropped.values())


def test_a_file_loses_no_frame_and_keeps_order_and_labels() -> None:
    sink = ListSink()
    pipeline = run(GraySource(200), BrightnessEngine(requests=4), sink)
    assert [item.frame.index for item in sink.items] == list(range(200))
    for item in sink.items:
        assert (item.labels == (item.frame.index > 127)).all()
    profiler = pipeline.profiler
    assert (profiler.frames_in, profiler.frames_out, profiler.dropped) == (200, 200, {})
    assert profiler.stages()["infer"].n == 200
    assert sink.closed == 1


def test_a_file_waits_for_a_slow_output() -> None:
    slow, fast = ListSink(write_s=0.01, name="slow"), ListSink(name="fast")
    run(GraySource(40), BrightnessEngine(), slow, fast)
    assert [item.frame.index for item in slow.items] == list(range(40))
    assert [item.frame.index for item in fast.items] == list(range(40))


def test_two_inferences_are_in_flight_for_a_file() -> None:
    engine = BrightnessEngine(infer_s=0.01, requests=2)
    run(GraySource(30), engine, ListSink(), flow=FlowOptions(warmup=0))
    assert engine.most_in_flight == 2


def test_a_live_source_shows_the_newest_frame_and_counts_the_others() -> None:
    """60 frames/s into an engine of 20: each frame taken is the newest of that moment."""
    sink = ListSink()
    engine = BrightnessEngine(infer_s=0.05, requests=4)
    flow = FlowOptions(warmup=0)
    pipeline = run(GraySource(120, fps=60, live=True), engine, sink, flow=flow)
    profiler = pipeline.profiler
    indexes = [item.frame.index for item in sink.items]
    assert indexes == sorted(set(indexes))
    assert profiler.frames_in == 120
    assert profiler.frames_out == len(indexes) < 60
    assert profiler.frames_out + sum(profiler.dropped.values()) == 120
    assert set(profiler.dropped) == {"newer_frame"}
    # No frame waits behind another one: latency cannot add up.
    assert engine.most_in_flight == 1


def test_a_slow_output_of_a_live_source_drops_and_says_so() -> None:
    slow, fast = ListSink(write_s=0.1, name="slow"), ListSink(name="fast")
    pipeline = run(GraySource(60, fps=60, live=True), BrightnessEngine(), slow, fast)
    assert len(slow.items) < len(fast.items)
    assert pipeline.profiler.frames_out >= len(fast.items)


def test_each_frame_has_its_stages() -> None:
    sink = ListSink(wants_picture=True)
    pipeline = run(GraySource(5), BrightnessEngine(infer_s=0.002), sink)
    assert {"decode", "preprocess", "infer", "render"} <= set(sink.items[0].stages_ms)
    stages = pipeline.profiler.stages()
    assert stages["encode"].n == 5
    assert stages["infer"].p50_ms == pytest.approx(2.0, rel=0.0026)


def test_no_picture_is_made_when_nobody_wants_one() -> None:
    plain = ListSink()
    run(GraySource(3), BrightnessEngine(), plain)
    assert all(item.picture is None for item in plain.items)
    seeing = ListSink(wants_picture=True)
    run(GraySource(3), BrightnessEngine(), seeing, ListSink())
    assert all(item.picture is not None for item in seeing.items)


def test_max_frames_stride_and_rate_leave_frames_out_by_reason() -> None:
    sink = ListSink()
    pipeline = run(
        GraySource(90), BrightnessEngine(), sink, flow=FlowOptions(stride=2, max_frames=10)
    )
    assert [item.frame.index for item in sink.items] == list(range(0, 20, 2))
    assert pipeline.profiler.dropped == {"stride": 9}
    sink = ListSink()
    pipeline = run(GraySource(90), BrightnessEngine(), sink, flow=FlowOptions(max_fps=10))
    assert len(sink.items) == 30
    assert pipeline.profiler.dropped == {"max_fps": 60}


def test_max_frames_of_a_live_source_are_frames_that_come_out() -> None:
    sink = ListSink()
    source = GraySource(1000, fps=100, live=True)
    pipeline = run(source, BrightnessEngine(infer_s=0.03), sink, flow=FlowOptions(max_frames=12))
    assert len(sink.items) == pipeline.profiler.frames_out == 12
    assert pipeline.profiler.dropped["newer_frame"] > 5
    assert all_frames_accounted(pipeline)


def test_warm_up_runs_are_not_in_the_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = BrightnessEngine(requests=3)
    monkeypatch.setattr("rtseg.realtime.profile.cpu_seconds", lambda: float(engine.runs))
    pipeline = run(GraySource(4), engine, ListSink(), flow=FlowOptions(warmup=5))
    assert engine.runs == 9
    assert engine.most_in_flight == 3, "all lanes are warmed up, and no more is asked for"
    assert pipeline.profiler.warmup_runs == 5
    assert 0.0 < pipeline.profiler.cpu_s <= 4.0, "five runs of the warm-up are not among them"
    assert pipeline.profiler.stages()["infer"].n == 4


@pytest.mark.parametrize("live", [False, True])
def test_an_error_of_the_source_ends_the_loop_and_finishes_the_outputs(live: bool) -> None:
    sink = ListSink()
    with pytest.raises(SourceError, match="broke at frame 20"):
        run(GraySource(50, live=live, fps=200, fail_at=20), BrightnessEngine(), sink)
    assert sink.closed == 1
    assert sink.items


def test_an_error_of_the_engine_ends_the_loop() -> None:
    source, sink = GraySource(10_000), ListSink()
    flow = FlowOptions(warmup=0)
    pipeline = Pipeline(source, BrightnessEngine(fail_at=30), None, [sink], flow=flow)
    with pytest.raises(EngineError, match="device was lost"):
        pipeline.run()
    assert sink.closed == 1
    assert all_frames_accounted(pipeline)
    assert source.closed.is_set()


def test_an_output_that_breaks_is_closed_and_the_others_go_on() -> None:
    good, bad = ListSink(name="good"), ListSink(fail_at=7, name="bad")
    pipeline = Pipeline(GraySource(60), BrightnessEngine(), None, [good, bad])
    with pytest.raises(SinkError, match="list is full"):
        pipeline.run()
    assert good.closed == bad.closed == 1
    assert [item.frame.index for item in good.items] == list(range(60))
    assert len(bad.items) == 7
    assert pipeline.profiler.frames_out == 60
    assert pipeline.profiler.dropped == {}


def test_the_last_output_that_breaks_ends_the_loop() -> None:
    first, last = ListSink(fail_at=3, name="first"), ListSink(fail_at=7, name="last")
    source = GraySource(100_000)
    pipeline = Pipeline(source, BrightnessEngine(), None, [first, last])
    with pytest.raises(SinkError, match="list is full"):
        pipeline.run()
    assert source.closed.is_set()
    assert first.closed == last.closed == 1
    profiler = pipeline.profiler
    assert profiler.frames_out == 7
    assert set(profiler.dropped) <= {"output_failed", "stopped"}
    assert all_frames_accounted(pipeline)
    assert profiler.frames_in < 100


def test_an_output_that_cannot_open_stops_before_the_first_frame() -> None:
    engine, good = BrightnessEngine(), ListSink(name="good")
    with pytest.raises(SinkError, match="no room"):
        run(GraySource(10), engine, good, ListSink(fail_open=True, name="bad"))
    assert engine.runs == 0
    assert good.closed == 1
    assert not good.items


def test_an_output_that_does_not_finish_before_the_first_frame_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rtseg.realtime.loop.FINISH_S", 0.2)
    gone = threading.Event()

    class Stuck(ListSink):
        def open(self, context: SinkContext) -> None:
            pipeline.stop()  # as Ctrl-C while outputs are opened
            gone.wait(10)

    pipeline = Pipeline(GraySource(10), BrightnessEngine(), None, [Stuck(name="stuck")])
    try:
        with pytest.raises(RealtimeError, match=r"did not finish .*: sink-stuck") as caught:
            pipeline.run()
    finally:
        gone.set()
    assert caught.value.reason == "TIMEOUT"


def test_an_error_of_the_painter_ends_the_loop() -> None:
    class Broken(PlainPainter):
        def render(self, frame: object, labels: object) -> object:  # type: ignore[override]
            raise RuntimeError("no paint")

    sink = ListSink(wants_picture=True)
    pipeline = Pipeline(GraySource(10_000), BrightnessEngine(), Broken(), [sink])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no paint"):
        pipeline.run()
    assert sink.closed == 1


@pytest.mark.parametrize("live", [False, True])
def test_stop_ends_the_loop_in_order(live: bool) -> None:
    sink = ListSink()
    pipeline = Pipeline(
        GraySource(100_000, live=live, fps=100), BrightnessEngine(infer_s=0.01), None, [sink]
    )
    timer = threading.Timer(0.3, pipeline.stop)
    timer.start()
    pipeline.run()
    timer.join()
    assert sink.closed == 1
    indexes = [item.frame.index for item in sink.items]
    assert indexes == sorted(indexes)
    assert indexes
    assert all_frames_accounted(pipeline)
    assert set(pipeline.profiler.dropped) <= {"stopped", "newer_frame"}


def test_an_interrupt_in_the_calling_thread_finishes_the_outputs() -> None:
    sink = ListSink()
    pipeline = Pipeline(GraySource(100_000), BrightnessEngine(infer_s=0.005), None, [sink])
    begin_s = time.monotonic()

    def while_running() -> None:
        if time.monotonic() - begin_s > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(while_running)
    assert sink.closed == 1
    assert pipeline.profiler.frames_in > len(sink.items), "some were under way"
    assert all_frames_accounted(pipeline)


def test_all_calls_of_a_sink_come_from_its_own_thread() -> None:
    first, second = ListSink(name="first"), ListSink(name="second")
    run(GraySource(5), BrightnessEngine(), first, second)
    assert first.threads == {"rtseg-sink-first"}
    assert second.threads == {"rtseg-sink-second"}


def test_a_pipeline_needs_a_sink() -> None:
    with pytest.raises(ValueError, match="at least one sink"):
        Pipeline(GraySource(1), BrightnessEngine(), None, [])


@pytest.mark.parametrize("live", [True, False])
def test_an_output_that_hangs_is_told_and_told_again_when_it_goes_on(
    live: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.realtime.delivery.SLOW_S", 0.2)
    monkeypatch.setattr("rtseg.realtime.delivery.LOOK_S", 0.1)
    monkeypatch.setattr(logging.getLogger("rtseg"), "propagate", True)
    hanging, good = ListSink(write_s=1.0, name="hanging"), ListSink(name="good")
    run(GraySource(80 if live else 7, fps=40, live=live), BrightnessEngine(), hanging, good)
    reasons = [getattr(record, "reason", "") for record in caplog.records]
    assert reasons[:2] == ["SLOW_OUTPUT", "OUTPUT_BACK"]
    assert "hanging" in caplog.text
    if live:
        assert "frames are left out" in caplog.text
        assert len(good.items) > 3 * len(hanging.items)
    else:
        assert "the run waits for it" in caplog.text
        assert len(good.items) == len(hanging.items) == 7
