"""From a histogram of magnitudes to the magnitude that int8's largest code stands for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.histogram import BINS, MagnitudeHistogram
from rtseg.calibration.methods import METHODS, PERCENTILE

LEVELS = 127
"""Largest int8 code; the codes are symmetric, -127 to 127, zero point 0."""

_CANDIDATES = 200
_ENTROPY_BINS = 2048


def check_method(method: str, percentile: float = PERCENTILE) -> None:
    """Check that a method and percentile can be used.

    Args:
        method: one of :data:`~rtseg.calibration.methods.METHODS`.
        percentile: over 0, at most 100.

    Raises:
        CalibrationError: ``BAD_OPTION`` for others.
    """
    if method not in METHODS:
        raise CalibrationError(
            f"unknown calibration method {method!r}. Allowed: {', '.join(METHODS)}",
            reason="BAD_OPTION",
        )
    if not 0 < percentile <= 100:
        raise CalibrationError(
            f"a percentile is over 0 and at most 100. Received: {percentile}", reason="BAD_OPTION"
        )


def threshold(
    histogram: MagnitudeHistogram, method: str, *, percentile: float = PERCENTILE
) -> float:
    """Return the magnitude to be represented by code 127; larger ones saturate.

    Args:
        histogram: magnitudes of a tensor.
        method: ``minmax`` (nothing saturates), ``percentile`` (that share of the values
            does not saturate), ``mse`` (least squared error of rounding and saturation
            together) or ``entropy`` (least Kullback-Leibler divergence between the
            distribution before and after; Migacz, "8-bit inference with TensorRT", 2017).
        percentile: for ``percentile``, over 0 up to 100.

    Returns:
        A positive magnitude, at most ``histogram.largest``; 1 for a tensor of zeros.

    Raises:
        CalibrationError: ``BAD_OPTION`` for an unknown method or percentile.
    """
    check_method(method, percentile)
    if histogram.largest == 0.0 or not histogram.counts.any():
        return histogram.largest or 1.0
    if method == "minmax":
        return histogram.largest
    if method == "percentile":
        found = _percentile(histogram, percentile)
    elif method == "mse":
        found = _least_squares(histogram)
    else:
        found = _least_divergence(histogram)
    return min(found, histogram.largest)


def _percentile(histogram: MagnitudeHistogram, percentile: float) -> float:
    """Upper edge of the bin below which ``percentile`` of the values lie."""
    cumulated = np.cumsum(histogram.counts)
    wanted = percentile / 100 * float(cumulated[-1])
    return float(np.searchsorted(cumulated, wanted) + 1) * histogram.width


def _least_squares(histogram: MagnitudeHistogram) -> float:
    """The candidate with the least squared error, by trying each on the bins' centres."""
    used = np.flatnonzero(histogram.counts)
    counts = histogram.counts[used].astype(np.float64)
    centres = histogram.centres[used]
    candidates = histogram.largest * np.linspace(1 / _CANDIDATES, 1, _CANDIDATES)
    errors = np.empty(_CANDIDATES)
    for number, candidate in enumerate(candidates):
        step = candidate / LEVELS
        rounded = np.minimum(np.round(centres / step), LEVELS) * step
        errors[number] = counts @ np.square(centres - rounded)
    return float(candidates[int(errors.argmin())])


def _least_divergence(histogram: MagnitudeHistogram) -> float:
    """Migacz' search: clip at each candidate, merge to 128 levels, compare."""
    top = int(histogram.largest / histogram.width) + 1
    per_bin = max(1, -(-top // _ENTROPY_BINS))
    length = -(-BINS // per_bin)
    padded = np.zeros(length * per_bin, np.int64)
    padded[:BINS] = histogram.counts
    counts = padded.reshape(length, per_bin).sum(1).astype(np.float64)
    # A ReLU's zeros are represented exactly whatever the threshold is.
    counts[0] = counts[1] if length > 1 else counts[0]
    top = -(-top // per_bin)
    best, best_divergence = top, np.inf
    for candidate in range(min(LEVELS + 1, top), top + 1, max(1, top // 256)):
        reference = counts[:candidate].copy()
        reference[-1] += counts[candidate:].sum()
        divergence = _divergence(reference, _merged(counts[:candidate], LEVELS + 1))
        if divergence < best_divergence:
            best, best_divergence = candidate, divergence
    return best * per_bin * histogram.width


def _merged(counts: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """Spread each level's mass evenly over those of its bins that were not empty."""
    level = np.arange(len(counts)) * levels // len(counts)
    filled = counts > 0
    mass = np.bincount(level, counts, levels)
    members = np.bincount(level, filled, levels)
    spread = np.divide(mass, members, out=np.zeros(levels), where=members > 0)
    return np.where(filled, spread[level], 0.0)


def _divergence(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence of two sets of counts, in nats."""
    if before.sum() == 0 or after.sum() == 0:
        return np.inf
    p = before / before.sum()
    q = np.maximum(after / after.sum(), 1e-12)
    shown = p > 0
    return float((p[shown] * np.log(p[shown] / q[shown])).sum())
