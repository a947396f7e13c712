"""How long a computation took, when it may have waited for a processor first."""

from __future__ import annotations

import threading
from bisect import insort


class LaneClock:
    """Tells computing from queueing where ``lanes`` workers take tasks in order.

    A runtime says when a task was handed over and when it ended, but not when it began.
    With first-in first-out order that is known all the same: task ``k`` began when it was
    handed over, or when the ``k - lanes``-th task to end made room for it, whichever is
    later.

    Args:
        lanes: how many tasks the runtime computes at once.
        most: how many tasks are under way at most.
    """

    def __init__(self, lanes: int, most: int) -> None:
        if lanes < 1 or most < 1:
            raise ValueError(f"lanes and most must be at least 1. Received: {lanes}, {most}")
        self._lanes = lanes
        self._keep = lanes + most
        self._ends_ns: list[int] = []  # in order, though they may be reported out of it
        self._forgotten = 0
        self._handed_over = 0
        self._lock = threading.Lock()

    def hand_over(self) -> int:
        """Return the number of the next task; call in the order of handing over."""
        with self._lock:
            self._handed_over += 1
            return self._handed_over - 1

    def end(self, task: int, handed_over_ns: int, ended_ns: int) -> float:
        """Note the end of a task and return how long it computed, in milliseconds."""
        with self._lock:
            began_ns = handed_over_ns
            made_room = task - self._lanes
            if made_room >= 0 and self._ends_ns:
                # An end that is still to be reported is no earlier than the newest one known.
                known = min(max(made_room - self._forgotten, 0), len(self._ends_ns) - 1)
                began_ns = max(began_ns, self._ends_ns[known])
            insort(self._ends_ns, ended_ns)
            if len(self._ends_ns) > self._keep:
                del self._ends_ns[0]
                self._forgotten += 1
        return max(0.0, (ended_ns - began_ns) / 1e6)
