"""Timestamps that always rise."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.sources.timeline import Timeline

BASES = st.sampled_from([Fraction(1, 90_000), Fraction(1, 1000), Fraction(1, 25), Fraction(1, 10)])
RATES = st.sampled_from([None, Fraction(25), Fraction(30_000, 1001), Fraction(120)])
STAMPS = st.lists(st.none() | st.integers(-(10**12), 10**12), min_size=1, max_size=40)


def placed(timeline: Timeline, stamps: list[int | None]) -> list[int]:
    return [timeline.place(timeline.raw(stamp)) for stamp in stamps]


@given(STAMPS, BASES, RATES)
def test_whatever_comes_in_begins_at_0_and_rises(
    stamps: list[int | None], base: Fraction, fps: Fraction | None
) -> None:
    out = placed(Timeline(base, fps), stamps)
    assert out[0] == 0
    assert all(a < b for a, b in itertools.pairwise(out))


@given(st.lists(st.integers(0, 10**9), unique=True, min_size=1), BASES)
def test_rising_timestamps_keep_their_distances(stamps: list[int], base: Fraction) -> None:
    stamps.sort()
    assert placed(Timeline(base, None), [*stamps]) == [stamp - stamps[0] for stamp in stamps]


def test_missing_timestamps_do_not_drift() -> None:
    timeline = Timeline(Fraction(1, 1000), Fraction(30_000, 1001))
    out = placed(timeline, [None] * 3001)
    assert out[-1] == 100_100
    assert abs(out[1500] - 50_050) <= 1


def test_a_jump_back_goes_on_one_frame_later() -> None:
    timeline = Timeline(Fraction(1, 1000), Fraction(25))
    assert placed(timeline, [5000, 5040, 5080, 20, 60, 100]) == [0, 40, 80, 120, 160, 200]


def test_a_long_jump_forward_goes_on_one_frame_later_where_clocks_are_set() -> None:
    stamps: list[int | None] = [0, 40, 9000, 3_600_000, 3_600_040, 80]
    timeline = Timeline(Fraction(1, 1000), Fraction(25), jumps=True)
    assert placed(timeline, stamps) == [0, 40, 9000, 9040, 9080, 9120]
    assert timeline.at(99_000) == 9160
    slow = Timeline(Fraction(1, 1000), Fraction(1, 30), jumps=True)
    assert placed(slow, [0, 30_000, 60_000]) == [0, 30_000, 60_000]
    assert placed(Timeline(Fraction(1, 1000), Fraction(25)), [0, 99_000]) == [0, 99_000]


def test_a_frame_that_is_not_later_moves_nothing_after_it() -> None:
    timeline = Timeline(Fraction(1, 1000), Fraction(25))
    out = placed(timeline, [0, 40, 40, 80, 160, 120, 200, 200, 240])
    assert out == [0, 40, 41, 80, 160, 161, 200, 201, 240]


def test_timestamps_that_stand_still_are_no_timestamps() -> None:
    timeline = Timeline(Fraction(1, 1000), Fraction(25))
    assert placed(timeline, [7] * 5) == [0, 1, 41, 81, 121]


def test_a_new_lap_begins_where_it_is_told() -> None:
    timeline = Timeline(Fraction(1, 1000), Fraction(25))
    placed(timeline, [0, 40])
    timeline.restart(at=100)
    assert placed(timeline, [7, 47]) == [100, 140]
