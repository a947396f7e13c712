"""Turns at the engine: fair whatever the sources' rates, bounded, and told when it is over."""

from __future__ import annotations

import threading
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.frame import Frame
from rtseg.realtime.slot import Closed, DropPolicy, Slot
from rtseg.realtime.turns import Lane, Turns
from tests.realtime.parts import gray_video_frame

PICTURE = gray_video_frame(0)


def frame(index: int) -> Frame:
    return Frame(index, PICTURE, index, Fraction(1, 30))


def lane_of(turns: Turns, policy: DropPolicy = "latest", in_flight: int = 1) -> Lane:
    slot: Slot[Frame] = Slot(1 if policy == "latest" else 4, policy, None, turns.changed)
    lane = Lane(slot, policy, in_flight)
    turns.join(lane)
    return lane


def finish(turns: Turns, lanes: list[Lane]) -> None:
    turns.computed()
    for lane in lanes:
        turns.rendering(lane)


def test_a_fast_source_gets_no_more_turns_than_a_slow_one_that_has_a_frame_each_time() -> None:
    turns = Turns(parallel=1, requests=2, expected=3)
    lanes = [lane_of(turns) for _ in range(3)]
    served: Counter[int] = Counter()
    for tick in range(300):
        for _ in range(12):  # twelve frames of the fast source for one of the others
            lanes[0].slot.put(frame(tick))
        lanes[1].slot.put(frame(tick))
        lanes[2].slot.put(frame(tick))
        turn = turns.next()
        served[lanes.index(turn.frames[0][0])] += 1
        finish(turns, [turn.frames[0][0]])
    assert served == {0: 100, 1: 100, 2: 100}


def test_the_newest_frame_of_the_moment_is_taken() -> None:
    turns = Turns(parallel=1, requests=2, expected=2)
    first, second = lane_of(turns), lane_of(turns)
    first.slot.put(frame(0))
    second.slot.put(frame(0))
    assert turns.next().frames[0][0] is first
    first.slot.put(frame(1))
    second.slot.put(frame(1))
    second.slot.put(frame(2))
    finish(turns, [first])
    lane, newest = turns.next().frames[0]
    assert (lane, newest.index) == (second, 2)


def test_a_batch_takes_one_frame_of_each_lane_from_the_longest_waiting_on() -> None:
    turns = Turns(parallel=1, requests=2, batch=2, expected=3)
    lanes = [lane_of(turns, "block", 3) for _ in range(3)]
    for lane in lanes:
        for index in range(3):
            lane.slot.put(frame(index))
    seen = []
    for _ in range(3):
        turn = turns.next()
        seen.append([lanes.index(lane) for lane, _ in turn.frames])
        finish(turns, [lane for lane, _ in turn.frames])
    assert seen == [[0, 1], [2, 0], [1, 2]]


def test_no_inference_begins_beyond_the_limit() -> None:
    turns = Turns(parallel=1, requests=3, expected=1)
    lane = lane_of(turns, "block", 10)
    assert turns.limit == 3
    lane_of(turns, "latest")
    assert turns.limit == 1  # what waited inside the engine would grow old
    lane.slot.put(frame(0))
    lane.slot.put(frame(1))
    turns.next()
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(turns.next()))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    turns.computed()
    thread.join(30)
    assert len(got) == 1


def test_a_lane_whose_renderer_is_stuck_holds_up_nobody() -> None:
    turns = Turns(parallel=1, requests=2, expected=2)
    stuck, free = lane_of(turns, "block", 2), lane_of(turns, "block", 2)
    served: Counter[bool] = Counter()
    for tick in range(20):
        if len(stuck.slot) < 4:
            stuck.slot.put(frame(tick))
        free.slot.put(frame(tick))
        lane = turns.next().frames[0][0]
        served[lane is free] += 1
        turns.computed()
        if lane is free:
            turns.rendering(lane)
    assert served[False] == 2
    assert served[True] == 18


def test_each_end_is_told_once_and_the_last_one_closes() -> None:
    turns = Turns(parallel=1, requests=2, expected=3)
    first, second = lane_of(turns), lane_of(turns)
    first.slot.put(frame(0))
    first.slot.end()
    second.slot.end()
    turn = turns.next()
    assert [lane for lane, _ in turn.frames] == [first]
    assert list(turn.over) == [second]
    assert list(turns.next().over) == [first]
    threading.Timer(0.05, turns.excused).start()  # the third never came
    with pytest.raises(Closed):
        turns.next()


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60),
    st.integers(1, 3),
)
def test_nobody_waits_longer_than_one_round(events: list[tuple[int, bool]], batch: int) -> None:
    turns = Turns(parallel=1, requests=2, batch=batch, expected=3)
    lanes = [lane_of(turns) for _ in range(3)]
    waited = [0, 0, 0]
    for number, serve in events:
        lanes[number].slot.put(frame(0))
        if not serve:
            continue
        ready = [index for index, lane in enumerate(lanes) if len(lane.slot)]
        turn = turns.next()
        served = [lanes.index(lane) for lane, _ in turn.frames]
        assert len(served) == min(batch, len(ready)) == len(set(served))
        for index in ready:
            waited[index] = 0 if index in served else waited[index] + 1
            assert waited[index] < 3
        finish(turns, [lane for lane, _ in turn.frames])
