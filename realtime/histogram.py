"""Durations in bounded memory, and their percentiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

_FIRST_MS = 0.001
_GROWTH = 1.005
_LOG_GROWTH = math.log(_GROWTH)
_BUCKETS = math.ceil(math.log(3.6e6 / _FIRST_MS) / _LOG_GROWTH) + 2


@dataclass(frozen=True)
class Summary:
    """Statistics of one clock, all but ``n`` in milliseconds."""

    n: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class LatencyHistogram:
    """Durations in memory that does not grow, with percentiles within 0.25 %.

    Count, mean, minimum and maximum are exact. The buckets grow by 0.5 % each, from one
    microsecond to one hour; what lies outside is counted in the first or last bucket.
    """

    __slots__ = ("_counts", "count", "max_ms", "min_ms", "total_ms")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total_ms = 0.0
        self.min_ms = math.inf
        self.max_ms = 0.0

    def add(self, value_ms: float) -> None:
        """Count one duration.

        Raises:
            ValueError: negative or not finite.
        """
        if not 0.0 <= value_ms < math.inf:
            raise ValueError(f"a duration is finite and not negative. Received: {value_ms}")
        self._counts[_bucket(value_ms)] += 1
        self.count += 1
        self.total_ms += value_ms
        self.min_ms = min(self.min_ms, value_ms)
        self.max_ms = max(self.max_ms, value_ms)

    def at_most(self, bounds_ms: Iterable[float]) -> list[int]:
        """Return, for each bound above 0, how many durations were at most so long (± 0.5 %)."""
        running = list(itertools.accumulate(self._counts))
        return [running[_bucket(bound_ms)] for bound_ms in bounds_ms]

    def copy(self) -> LatencyHistogram:
        """Return a histogram with the same counts that goes its own way."""
        other = LatencyHistogram()
        other._counts = self._counts.copy()
        other.count, other.total_ms = self.count, self.total_ms
        other.min_ms, other.max_ms = self.min_ms, self.max_ms
        return other

    def percentile(self, percent: float) -> float:
        """Return the nearest-rank percentile in milliseconds; 0 when nothing was counted.

        Args:
            percent: 0 to 100.
        """
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"a percentile is 0 to 100. Received: {percent}")
        if self.count == 0:
            return 0.0
        rank = max(1, math.ceil(percent / 100.0 * self.count))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                middle = _FIRST_MS * _GROWTH ** (bucket - 0.5) if bucket else _FIRST_MS / 2
                return min(max(middle, self.min_ms), self.max_ms)
        return self.max_ms

    def summary(self) -> Summary:
        """Return count, mean, percentiles and maximum."""
        return Summary(
            n=self.count,
            mean_ms=self.total_ms / self.count if self.count else 0.0,
            p50_ms=self.percentile(50),
            p90_ms=self.percentile(90),
            p95_ms=self.percentile(95),
            p99_ms=self.percentile(99),
            max_ms=self.max_ms,
        )


def _bucket(value_ms: float) -> int:
    if value_ms <= _FIRST_MS:
        return 0
    return min(int(math.log(value_ms / _FIRST_MS) / _LOG_GROWTH) + 1, _BUCKETS - 1)


def nearest_rank(ordered: Iterable[float], percent: float) -> float:
    """Return the nearest-rank percentile of values in rising order.

    Raises:
        ValueError: no values.
    """
    values = list(ordered)
    if not values:
        raise ValueError("a percentile needs at least one value. Received: none")
    return values[max(1, math.ceil(percent / 100.0 * len(values))) - 1]
