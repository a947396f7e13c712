"""What becomes of a frame on its way to several outputs."""

from __future__ import annotations

from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.profile import Profiler
from rtseg.realtime.report import missed_lines
from rtseg.realtime.throttle import FlowOptions
from tests.realtime.parts import BrightnessEngine, GraySource, ListSink


def test_what_one_of_several_outputs_did_not_get_is_counted() -> None:
    """Found: a frame that another output took was dropped nowhere."""
    profiler = Profiler()
    quick, slow = ListSink(name="quick"), ListSink(name="slow", write_s=0.15)
    pipeline = Pipeline(
        GraySource(60, live=True),
        BrightnessEngine(),
        None,
        [quick, slow],
        flow=FlowOptions(drop_policy="latest"),
        profiler=profiler,
    )
    pipeline.run()
    assert profiler.frames_out + sum(profiler.dropped.values()) == profiler.frames_in == 60
    assert len(slow.items) < profiler.frames_out
    for sink in (quick, slow):
        missed = sum(profiler.missed.get(sink.name, {}).values())
        assert len(sink.items) + missed == profiler.frames_out
    (line,) = [line for line in missed_lines(profiler.missed) if line.startswith("slow: ")]
    assert line == f"slow: {profiler.frames_out - len(slow.items)} slow_output"
