"""A histogram of magnitudes that grows with its data.

One pass over a stream suffices: the range is a power of two and doubles when a larger
value comes, neighbouring bins being added pairwise. Bin edges are exact binary fractions,
so a histogram does not depend on the order in which its values came.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 8192
"""Bins of a histogram; at least half of them lie below the largest value."""

_SMALLEST_EXPONENT = -60


class MagnitudeHistogram:
    """Counts of ``|x|`` in equal bins from 0 to a power of two.

    Attributes:
        counts: int64, :data:`BINS` entries.
        largest: largest magnitude seen, also among values that were not counted.
        seen: number of values looked at.

    Example:
        >>> histogram = MagnitudeHistogram()
        >>> histogram.add(np.float32([-1.5, 0.25]))
        >>> histogram.limit, histogram.largest, int(histogram.counts.sum())
        (2.0, 1.5, 2)
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.largest = 0.0
        self.seen = 0
        self._exponent = _SMALLEST_EXPONENT

    @property
    def limit(self) -> float:
        """Upper edge of the last bin."""
        return math.ldexp(1.0, self._exponent)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return self.limit / BINS

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin."""
        return (np.arange(BINS, dtype=np.float64) + 0.5) * self.width

    def add(self, values: NDArray[np.floating], *, step: int = 1, start: int = 0) -> None:
        """Count values; the largest magnitude is taken from all of them.

        Args:
            values: float array of any shape.
            step: count only every ``step``-th value, in memory order.
            start: position of the first value to count.

        Raises:
            ValueError: a value is not finite.
        """
        flat = values.reshape(-1)
        if flat.size == 0:
            return
        largest = float(max(flat.max(), -flat.min()))
        if not math.isfinite(largest):
            raise ValueError("values must be finite. Received: NaN or infinity")
        self.largest = max(self.largest, largest)
        self.seen += flat.size
        self._grow_to(largest)
        magnitudes = np.abs(flat[start % step :: step], dtype=np.float32)
        # A power of two: the product is exact.
        bins = (magnitudes * np.float32(BINS / self.limit)).astype(np.int32)
        self.counts += np.bincount(bins, minlength=BINS)

    def share_above(self, threshold: float) -> float:
        """Return the share of counted values whose bin lies above a magnitude, 0 to 1."""
        total = int(self.counts.sum())
        if total == 0:
            return 0.0
        first = min(BINS, math.floor(threshold / self.width) + 1)
        return float(self.counts[first:].sum()) / total

    def _grow_to(self, largest: float) -> None:
        """Double the range until ``largest`` lies inside it."""
        while largest >= self.limit:
            if self.counts.any():
                self.counts = np.concatenate(
                    (self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64))
                )
                self._exponent += 1
            else:
                self._exponent = max(math.frexp(largest)[1], _SMALLEST_EXPONENT)
