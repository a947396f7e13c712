from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.laneclock import LaneClock


@given(
    lanes=st.integers(1, 4),
    most=st.integers(1, 6),
    tasks=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), min_size=1, max_size=40),
)
def test_it_tells_the_computing_of_a_simulated_runtime(
    lanes: int, most: int, tasks: list[tuple[int, int]]
) -> None:
    """Each task: pause before it is handed over, and time it computes, in milliseconds."""
    clock = LaneClock(lanes, most)
    free = [0] * lanes  # when each lane is free
    under_way: list[tuple[int, int, int, int]] = []  # end, number, handed over, computes
    now = 0
    told = {}

    def report_until(time: int) -> None:
        while under_way and under_way[0][0] <= time:
            end, number, handed, computes = heapq.heappop(under_way)
            told[number] = (clock.end(number, handed * 10**6, end * 10**6), computes)

    for pause, computes in tasks:
        now += pause
        report_until(now)
        while len(under_way) >= most:  # submit waits
            now = max(now, under_way[0][0])
            report_until(now)
        begins = max(now, heapq.heappop(free))
        heapq.heappush(free, begins + computes)
        heapq.heappush(under_way, (begins + computes, clock.hand_over(), now, computes))
    report_until(10**9)
    assert len(told) == len(tasks)
    for found_ms, computes in told.values():
        assert found_ms == pytest.approx(computes)


def test_an_end_reported_late_never_gives_a_negative_time() -> None:
    clock = LaneClock(1, 2)
    first, second = clock.hand_over(), clock.hand_over()
    assert clock.end(second, 0, 5_000_000) >= 0  # before the first is reported
    assert clock.end(first, 0, 9_000_000) >= 0


def test_no_lane_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LaneClock(0, 1)
