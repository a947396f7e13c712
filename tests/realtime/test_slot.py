"""Bounded hand-over between threads: order, loss, waking up."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.slot import Closed, Slot


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def drain(slot: Slot[int]) -> list[int]:
    taken: list[int] = []
    try:
        while True:
            item = slot.get()
            assert item is not None
            taken.append(item)
    except Closed:
        return taken


@given(st.integers(1, 5), st.integers(0, 60))
def test_block_loses_nothing_and_keeps_order(capacity: int, count: int) -> None:
    slot: Slot[int] = Slot(capacity, "block")

    def write() -> None:
        for item in range(count):
            slot.put(item)
            assert len(slot) <= capacity
        slot.end()

    writer = in_thread(write)
    assert drain(slot) == list(range(count))
    writer.join()


@given(st.integers(1, 4), st.integers(0, 30))
def test_latest_keeps_the_newest_and_hands_over_what_is_dropped(capacity: int, count: int) -> None:
    """Each item is a list of numbers; dropping merges, so no number may be missing."""
    slot: Slot[list[int]] = Slot(capacity, "latest", lambda old, new: old + new)
    for item in range(count):
        slot.put([item])
    slot.end()
    seen: list[list[int]] = []
    while True:
        try:
            got = slot.get()
        except Closed:
            break
        assert got is not None
        seen.append(got)
    assert len(seen) == min(capacity, count)
    assert [number for group in seen for number in group] == list(range(count))


def test_a_full_slot_waits_for_the_reader() -> None:
    slot: Slot[int] = Slot(1, "block")
    slot.put(1)
    done = threading.Event()
    writer = in_thread(lambda: (slot.put(2), done.set()))
    assert not done.wait(0.1)
    assert slot.get() == 1
    assert done.wait(30)
    writer.join()


def test_close_wakes_writer_and_reader() -> None:
    full: Slot[int] = Slot(1, "block")
    full.put(1)
    empty: Slot[int] = Slot(1)
    woken: list[str] = []

    def write() -> None:
        with pytest.raises(Closed):
            full.put(2)
        woken.append("writer")

    def read() -> None:
        with pytest.raises(Closed):
            empty.get()
        woken.append("reader")

    threads = [in_thread(write), in_thread(read)]
    full.close()
    empty.close()
    for thread in threads:
        thread.join(30)
    assert sorted(woken) == ["reader", "writer"]


def test_a_timeout_gives_none() -> None:
    assert Slot[int](1).get(0.01) is None


def test_capacity_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="Received: 0"):
        Slot(0)
