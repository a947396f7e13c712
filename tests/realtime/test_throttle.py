"""Stride and rate limit, decided on timestamps alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.errors import UsageError
from rtseg.realtime.throttle import FlowOptions, Throttle


def taken(throttle: Throttle, times_s: list[float]) -> list[int]:
    return [n for n, time_s in enumerate(times_s) if throttle.refuse(time_s) is None]


@given(st.integers(1, 10), st.integers(0, 100))
def test_stride_takes_each_nth(stride: int, count: int) -> None:
    times = [n / 30 for n in range(count)]
    assert taken(Throttle(stride), times) == list(range(0, count, stride))


@pytest.mark.parametrize(
    ("source_fps", "max_fps"), [(30, 20), (30, 15), (60, 25), (25, 10), (30, 7)]
)
def test_the_limited_rate_is_the_one_asked_for(source_fps: int, max_fps: int) -> None:
    seconds = 20
    times = [n / source_fps for n in range(source_fps * seconds)]
    assert len(taken(Throttle(1, max_fps), times)) == pytest.approx(max_fps * seconds, abs=1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.floats(0.5, 100))
def test_never_more_than_the_limit(gaps_s: list[float], max_fps: float) -> None:
    times: list[float] = []
    now = 0.0
    for gap in gaps_s:
        now += gap
        times.append(now)
    got = [times[n] for n in taken(Throttle(1, max_fps), times)]
    span = got[-1] - got[0]
    assert len(got) <= (span + 1e-3) * max_fps + 2


def test_a_rate_above_the_source_changes_nothing() -> None:
    times = [n / 30 for n in range(300)]
    assert len(taken(Throttle(1, 30), times)) == 300
    assert len(taken(Throttle(1, 120), times)) == 300


def test_policy_and_capacity_follow_the_source() -> None:
    flow = FlowOptions()
    assert (flow.policy(True), flow.capacity(True)) == ("latest", 1)
    assert (flow.policy(False), flow.capacity(False)) == ("block", 4)
    assert FlowOptions(drop_policy="block", buffer=9).capacity(True) == 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"buffer": -1},
        {"stride": 0},
        {"max_frames": 0},
        {"warmup": -1},
        {"max_fps": 0.0},
        {"max_fps": float("nan")},
        {"drop_policy": "newest"},
    ],
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="Received"):
        FlowOptions(**wrong)  # type: ignore[arg-type]
