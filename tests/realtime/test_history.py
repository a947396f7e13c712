"""What the HTML report draws over time: nothing is lost, nothing grows."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.charts import HEIGHT, WIDTH
from rtseg.realtime.charts_time import (
    TIMELINE_FRAMES,
    class_chart,
    frames_chart,
    shown_classes,
    timeline_chart,
)
from rtseg.realtime.history import OUT, RECENT_SPANS, BinnedCounts, History, HistoryTrace, Span
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.profile import Profiler
from rtseg.realtime.throttle import FlowOptions
from rtseg.realtime.trace import Trace, TraceFile
from tests.realtime.parts import BrightnessEngine, GraySource, ListSink

EVENTS = st.lists(
    st.tuples(st.floats(0, 2000), st.sampled_from([OUT, "stride", "newer_frame"])), max_size=200
)


@given(EVENTS, st.sampled_from([2, 4, 10, 240]))
def test_counts_are_bounded_and_none_is_lost(events: list[tuple[float, str]], bins: int) -> None:
    counts = BinnedCounts(bins)
    for time_s, name in events:
        counts.add(time_s, {name: 1})
    parts = counts.parts()
    assert len(parts) <= bins
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    assert total == Counter(name for _, name in events)
    for time_s, name in events:
        assert parts[int(time_s / counts.width_s)][name] > 0


def test_a_week_fits() -> None:
    counts = BinnedCounts()
    for hour in range(24 * 7):
        counts.add(hour * 3600.0, {OUT: 108_000})
    parts = counts.parts()
    assert len(parts) <= 240
    assert counts.width_s * 240 >= 7 * 86400 - 3600
    assert sum(part[OUT] for part in parts) == 108_000 * 24 * 7


@pytest.mark.parametrize("bins", [0, 1, 3])
def test_the_number_of_bins_is_even(bins: int) -> None:
    with pytest.raises(ValueError, match="Received"):
        BinnedCounts(bins)


def test_class_ids_become_shares() -> None:
    history = History(CITYSCAPES)
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 13
    labels[:8] = 255
    history.labels(0.1, labels)
    width_s, (part,) = history.classes_over_time()
    assert width_s > 0
    assert part["road"] == part["car"] > 0
    assert set(part) == {"road", "car"}


def test_spans_are_kept_with_their_thread_and_go_on_into_the_file(tmp_path: Path) -> None:
    history, path = History(CITYSCAPES), tmp_path / "trace.json"
    file = TraceFile(path)
    trace = HistoryTrace(file, history)

    def work() -> None:
        trace.span("render", 10, 20, 3)
        trace.span("no frame", 10, 20)
        trace.instant("stall")
        trace.overlapping("in the engine", 0, 5_000_000, 3, infer_ms=2.0)
        trace.overlapping("frame", 0, 9, 3, pts_s=0.1)

    thread = threading.Thread(target=work, name="rtseg-render")
    thread.start()
    thread.join()
    trace.close()
    assert history.spans() == [
        Span("render", "render", 10, 20, 3),
        Span("engine", "infer", 3_000_000, 5_000_000, 3),
    ]
    written = path.read_text()
    for name in ("render", "no frame", "stall", "in the engine"):
        assert f'"{name}"' in written


def test_old_spans_are_forgotten() -> None:
    history = History(CITYSCAPES)
    for index in range(2 * RECENT_SPANS):
        history.span(Span("render", "render", index, index + 1, index))
    assert len(history.spans()) == RECENT_SPANS
    assert history.spans()[-1].frame == 2 * RECENT_SPANS - 1


def test_a_profiler_without_a_history_keeps_the_trace_as_it_is() -> None:
    trace = Trace()
    profiler = Profiler(trace=trace)
    assert profiler.trace is trace


@pytest.mark.parametrize("several", [False, True])
def test_a_run_fills_its_history(several: bool) -> None:
    """Of several streams, the history of all together."""
    total = Profiler()
    total.history = History(BrightnessEngine().spec.classes)
    profiler = Profiler(total=total) if several else total
    profiler.trace = Trace()
    sink = ListSink(wants_picture=False)
    flow = FlowOptions(stride=2, warmup=0)
    Pipeline(GraySource(200), BrightnessEngine(), None, [sink], flow=flow, profiler=profiler).run()
    _, frames = total.history.frames_over_time()
    assert sum(part[OUT] for part in frames) == 100
    assert sum(part["stride"] for part in frames) == 100
    _, classes = total.history.classes_over_time()
    pixels: Counter[str] = Counter()
    for part in classes:
        pixels.update(part)
    assert pixels["bright"] / pixels.total() == pytest.approx(0.36)
    names = {span.name for span in total.history.spans()}
    assert {"decode", "preprocess", "infer", "write"} <= names


def corners(svg: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(svg)
    found = []
    for area in root.iter("polygon"):
        found += [tuple(map(float, p.split(","))) for p in (area.get("points") or "").split()]
    for box in root.iter("rect"):
        x, y, wide, high = (float(box.get(name) or 0) for name in ("x", "y", "width", "height"))
        assert wide > 0
        assert high >= 0
        found += [(x, y), (x + wide, y + high)]
    return found  # type: ignore[return-value]


SHARES = st.lists(
    st.dictionaries(st.sampled_from(CITYSCAPES.names), st.integers(0, 4096), max_size=6),
    max_size=30,
)


@given(SHARES, st.floats(0.25, 1e5))
def test_the_class_chart_stays_inside_its_frame(
    parts: list[dict[str, int]], width_s: float
) -> None:
    counters = [Counter(part) for part in parts]
    for x, y in corners(class_chart(width_s, counters, CITYSCAPES)):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_classes_that_are_hardly_there_are_not_drawn() -> None:
    parts = [Counter({"road": 5000, "train": 1}), Counter({"road": 4000, "car": 1000})]
    assert shown_classes(parts, CITYSCAPES) == ["road", "car"]


@given(EVENTS)
def test_every_frame_is_in_the_frames_chart(events: list[tuple[float, str]]) -> None:
    counts = BinnedCounts(20)
    for time_s, name in events:
        counts.add(time_s, {name: 1})
    chart = frames_chart(counts.width_s, counts.parts())
    titles = [title.text or "" for title in ElementTree.fromstring(chart).iter("title")]
    assert sum(int(title.split()[0]) for title in titles) == len(events)
    for x, y in corners(chart):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def spans_of(frames: int) -> list[Span]:
    made = []
    for index in range(frames):
        start_ns = index * 40_000_000
        made += [
            Span("capture", "decode", start_ns, start_ns + 4_000_000, index),
            Span("infer", "preprocess", start_ns + 4_000_000, start_ns + 5_000_000, index),
            Span("engine", "infer", start_ns + 5_000_000, start_ns + 65_000_000, index),
            Span(
                "collect", "wait for the engine", start_ns + 5_000_000, start_ns + 65_000_000, index
            ),
            Span("render", "render", start_ns + 65_000_000, start_ns + 66_000_000, index),
            Span("sink-out.mp4", "write", start_ns + 66_000_000, start_ns + 80_000_000, index),
        ]
    return made


def test_the_timeline_shows_a_few_whole_frames_and_overlaps_in_lanes_of_their_own() -> None:
    chart = timeline_chart(spans_of(60))
    root = ElementTree.fromstring(chart)
    titles = [title.text or "" for title in root.iter("title")]
    written = [title for title in titles if title.startswith("write")]
    assert len(written) >= TIMELINE_FRAMES
    names = [text.text for text in root.iter("text") if text.get("text-anchor") == "end"]
    assert names.count("engine") == 1
    assert "out.mp4" in names
    assert names.count(None) >= 1, "two inferences at once need two lanes"
    height = float((root.get("viewBox") or "").split()[3])
    for x, y in corners(chart):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= height


@pytest.mark.parametrize("spans", [[], spans_of(1), spans_of(3), spans_of(5)[:7]])
def test_short_runs_have_a_timeline_or_none(spans: list[Span]) -> None:
    ElementTree.fromstring(timeline_chart(spans))
