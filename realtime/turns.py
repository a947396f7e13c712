"""Whose frames enter the engine next: everyone in turn, nobody twice in a row while others wait."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from rtseg.realtime.frame import Frame
from rtseg.realtime.slot import Closed, DropPolicy, Slot


class Lane:
    """Where one stream's frames wait for the engine.

    Args:
        slot: the waiting frames; made with the :attr:`Turns.changed` of its turns.
        policy: how the slot treats a full house; ``latest`` marks a stream that wants the
            newest frame without a queue anywhere.
        in_flight: how many of this stream's frames may be between the slot and the stream's
            renderer. Whatever holds up the renderer holds up this stream alone.
    """

    def __init__(self, slot: Slot[Frame], policy: DropPolicy, in_flight: int) -> None:
        self.slot = slot
        self.policy = policy
        self.in_flight = in_flight
        self._room = in_flight
        self._served = 0
        self._told_over = False


@dataclass(frozen=True)
class Turn:
    """What the engine is to do next.

    Attributes:
        frames: lanes with their frames, at most one frame of each; may be empty.
        over: lanes that will have no frame any more; each is told once.
    """

    frames: Sequence[tuple[Lane, Frame]]
    over: Sequence[Lane]


class Turns:
    """Gives the lanes of one engine their turns.

    An inference begins when the engine has room and at least one lane has a frame. It takes
    one frame of each lane that has one, from the lane on whose last turn is longest ago, up
    to ``batch`` frames; so a source of 120 frames/s gets no more turns than one of 10 that
    has a frame each time, and each lane waits at most one round. The frame is taken in that
    moment and not before: of a ``latest`` lane it is the newest there is.

    Args:
        parallel: inferences that the engine computes at once. While there is a ``latest``
            lane no more are in flight, as they would wait inside the engine and grow old.
        requests: inferences that may be in flight otherwise.
        batch: frames that one inference may hold.
        expected: lanes that will :meth:`join`; a lane that will not must be
            :meth:`excused`.
    """

    def __init__(self, *, parallel: int, requests: int, batch: int = 1, expected: int = 1) -> None:
        self.changed = threading.Condition()
        self._parallel = max(1, parallel)
        self._requests = max(2, requests)
        self._batch = max(1, batch)
        self._expected = expected
        self._lanes: list[Lane] = []
        self._in_flight = 0
        self._turns = 0
        self._closed = False

    @property
    def limit(self) -> int:
        """How many inferences may be in flight with the lanes there are."""
        with self.changed:
            newest = any(lane.policy == "latest" for lane in self._lanes)
            return self._parallel if newest else self._requests

    def join(self, lane: Lane) -> None:
        """Add a lane."""
        with self.changed:
            self._lanes.append(lane)
            self._expected -= 1
            self.changed.notify_all()

    def excused(self) -> None:
        """Say that one expected lane will never come."""
        with self.changed:
            self._expected -= 1
            self.changed.notify_all()

    def next(self) -> Turn:
        """Wait until there is something to do and return it.

        Raises:
            Closed: every lane is over and was told so, or :meth:`close` was called.
        """
        with self.changed:
            while True:
                if self._closed:
                    raise Closed
                over = [lane for lane in self._lanes if lane.slot.over and not lane._told_over]
                frames = self._frames()
                if frames or over:
                    for lane in over:
                        lane._told_over = True
                    return Turn(frames, over)
                if self._expected <= 0 and all(lane._told_over for lane in self._lanes):
                    raise Closed
                self.changed.wait()

    def computed(self) -> None:
        """Say that one inference has left the engine."""
        with self.changed:
            self._in_flight -= 1
            self.changed.notify_all()

    def rendering(self, lane: Lane) -> None:
        """Say that the renderer of a lane has taken one of its frames."""
        with self.changed:
            lane._room += 1
            self.changed.notify_all()

    def close(self) -> None:
        """Wake whoever waits in :meth:`next` with :class:`Closed`."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def _frames(self) -> list[tuple[Lane, Frame]]:
        if self._in_flight >= self.limit:
            return []
        ready = [lane for lane in self._lanes if lane._room > 0 and len(lane.slot)]
        ready.sort(key=lambda lane: lane._served)
        taken: list[tuple[Lane, Frame]] = []
        for lane in ready[: self._batch]:
            frame = lane.slot.get(0)
            assert frame is not None
            self._turns += 1
            lane._served = self._turns
            lane._room -= 1
            taken.append((lane, frame))
        self._in_flight += bool(taken)
        return taken
