"""The clocks: bounded histograms hold what an exact computation gives."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.frame import now_ns
from rtseg.realtime.profile import RECENT_FRAMES, LatencyHistogram, Profiler, nearest_rank

durations_ms = st.floats(min_value=0.002, max_value=3.5e6, allow_nan=False)


@given(st.lists(durations_ms, min_size=1, max_size=200), st.floats(0, 100))
def test_percentiles_are_within_a_quarter_percent(values: list[float], percent: float) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    exact = nearest_rank(sorted(values), percent)
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.0026)


@given(st.lists(st.floats(min_value=0, max_value=1e7), min_size=1, max_size=100))
def test_count_mean_and_maximum_are_exact(values: list[float]) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    summary = histogram.summary()
    assert summary.n == len(values)
    assert summary.mean_ms == pytest.approx(math.fsum(values) / len(values))
    assert summary.max_ms == max(values)
    assert (
        min(values)
        <= summary.p50_ms
        <= summary.p90_ms
        <= summary.p95_ms
        <= summary.p99_ms
        <= summary.max_ms
    )


def test_an_empty_histogram_is_all_zero() -> None:
    summary = LatencyHistogram().summary()
    assert (summary.n, summary.mean_ms, summary.p99_ms, summary.max_ms) == (0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_durations_that_cannot_be_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="Received"):
        LatencyHistogram().add(value)


def test_memory_does_not_grow_with_frames() -> None:
    profiler = Profiler()
    for index in range(RECENT_FRAMES * 2):
        captured_ns = now_ns()
        profiler.frame_in(captured_ns)
        profiler.frame_out(
            index=index,
            pts_s=index / 30,
            captured_ns=captured_ns,
            presented_ns=captured_ns + 20_000_000,
            stages_ms={"infer": 15.0},
        )
    assert len(profiler.recent()) == RECENT_FRAMES
    assert profiler.recent()[-1].index == RECENT_FRAMES * 2 - 1
    assert profiler.latency().p50_ms == pytest.approx(20.0, rel=0.0026)
    assert profiler.stages()["infer"].n == RECENT_FRAMES * 2
    assert profiler.stages()["render"].n == 0


def test_drops_are_counted_by_reason_from_many_threads() -> None:
    profiler = Profiler()

    def drop() -> None:
        for _ in range(500):
            profiler.drop("newer_frame")
            profiler.drop("stride", 2)

    threads = [threading.Thread(target=drop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert profiler.dropped == {"newer_frame": 2000, "stride": 4000}


def test_the_live_rate_is_over_intervals_not_frames() -> None:
    """n frames span n-1 intervals: a counter that divides by n reads too high."""
    profiler = Profiler(output_interval=3)
    assert profiler.live_fps() == 0.0
    for index in range(3):
        threading.Event().wait(0.02)
        profiler.frame_out(index=index, pts_s=0.0, captured_ns=0, presented_ns=1, stages_ms={})
    assert 0 < profiler.live_fps() <= 50.0
