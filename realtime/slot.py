"""The bounded place between two threads, with the two ways to treat a full one."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from rtseg.realtime.frame import Frame

T = TypeVar("T")
DropPolicy = Literal["latest", "block"]


class Closed(Exception):
    """The slot was closed: nothing more goes in or comes out."""


class Slot(Generic[T]):
    """Hands items from one thread to another and never holds more than ``capacity``.

    Args:
        capacity: how many items may wait, at least 1.
        policy: what :meth:`put` does when the slot is full: ``block`` waits for room,
            ``latest`` throws the oldest item out, so that the newest wins.
        on_drop: called with the item thrown out and the one that stays behind it; returns
            what takes the place of the latter (to save what must not be lost with the
            former).
        changed: what to wait on and to notify, where one thread looks after several slots;
            one of its own if None.
    """

    def __init__(
        self,
        capacity: int,
        policy: DropPolicy = "block",
        on_drop: Callable[[T, T], T] | None = None,
        changed: threading.Condition | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"a slot holds at least one item. Received: {capacity}")
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._policy = policy
        self._on_drop = on_drop
        self._changed = changed if changed is not None else threading.Condition()
        self._ended = False
        self._closed = False

    def put(self, item: T, timeout_s: float | None = None) -> bool:
        """Add an item; return False when ``timeout_s`` passed without room for it.

        Raises:
            Closed: the reader has gone.
        """
        with self._changed:
            if self._policy == "block" and not self._changed.wait_for(
                lambda: self._closed or len(self._items) < self._capacity, timeout_s
            ):
                return False
            if self._closed:
                raise Closed
            self._items.append(item)
            if len(self._items) > self._capacity:
                oldest = self._items.popleft()
                if self._on_drop is not None:
                    self._items[0] = self._on_drop(oldest, self._items[0])
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> T | None:
        """Take the oldest item; None when ``timeout_s`` passed without one.

        Raises:
            Closed: the writer ended and nothing is left, or the slot was closed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._ended or bool(self._items), timeout_s
            )
            if self._closed or (self._ended and not self._items):
                raise Closed
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self) -> None:
        """Say that nothing more will be put; what waits can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> list[T]:
        """Take out what waits and wake everybody with :class:`Closed`."""
        with self._changed:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return left

    @property
    def over(self) -> bool:
        """Whether nothing can be taken any more, now or later."""
        with self._changed:
            return self._closed or (self._ended and not self._items)

    def __len__(self) -> int:
        return len(self._items)


def keep_packets(dropped: Frame, next_frame: Frame) -> Frame:
    """Return ``next_frame`` with the sound packets of the frame dropped before it."""
    if not dropped.packets:
        return next_frame
    return dataclasses.replace(next_frame, packets=dropped.packets + next_frame.packets)
