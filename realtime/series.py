"""A value over a whole run in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Interval:
    """Some values in a row: when the first came, how many, their sum, the largest."""

    start_s: float
    count: int
    total: float
    largest: float

    @property
    def mean(self) -> float:
        """Their mean."""
        return self.total / self.count


class BoundedSeries:
    """Mean and maximum of a value over time, in at most ``capacity`` intervals.

    Each interval holds equally many values; when there are too many intervals, neighbours are
    merged, so a run of an hour is kept as coarsely as it will be looked at. No maximum is
    ever lost.

    Args:
        capacity: an even number of intervals, at least 2.

    >>> series = BoundedSeries(2)
    >>> for time_s, value in enumerate((5.0, 1.0, 9.0)):
    ...     series.add(time_s, value)
    >>> [(part.start_s, part.mean, part.largest) for part in series.intervals()]
    [(0, 3.0, 5.0), (2, 9.0, 9.0)]
    """

    def __init__(self, capacity: int = 600) -> None:
        if capacity < 2 or capacity % 2:
            raise ValueError(f"the capacity is an even number from 2 on. Received: {capacity}")
        self._capacity = capacity
        self._each = 1
        self._parts: list[Interval] = []

    def add(self, time_s: float, value: float) -> None:
        """Add a value; times must not fall."""
        if self._parts and self._parts[-1].count < self._each:
            part = self._parts[-1]
            part.count += 1
            part.total += value
            part.largest = max(part.largest, value)
            return
        if len(self._parts) == self._capacity:
            pairs = zip(self._parts[::2], self._parts[1::2], strict=True)
            self._parts = [
                Interval(a.start_s, a.count + b.count, a.total + b.total, max(a.largest, b.largest))
                for a, b in pairs
            ]
            self._each *= 2
        self._parts.append(Interval(time_s, 1, value, value))

    def intervals(self) -> list[Interval]:
        """Return copies of the intervals, in order of time."""
        return [Interval(p.start_s, p.count, p.total, p.largest) for p in self._parts]
