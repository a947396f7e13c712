"""Thresholds: what each method takes from a histogram."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.histogram import MagnitudeHistogram
from rtseg.calibration.methods import METHODS
from rtseg.calibration.thresholds import LEVELS, threshold


def histogram_of(values: np.ndarray) -> MagnitudeHistogram:
    histogram = MagnitudeHistogram()
    histogram.add(values.astype(np.float32))
    return histogram


def squared_error(values: np.ndarray, largest: float) -> float:
    step = largest / LEVELS
    return float(np.square(values - np.clip(np.rint(values / step), -LEVELS, LEVELS) * step).mean())


def test_minmax_is_the_largest() -> None:
    assert threshold(histogram_of(np.array([0.5, -3.25, 1])), "minmax") == 3.25


def test_percentile_is_numpys() -> None:
    values = np.random.default_rng(0).normal(0, 2, 400_000)
    found = threshold(histogram_of(values), "percentile", percentile=99.9)
    assert found == pytest.approx(np.percentile(np.abs(values), 99.9), rel=0.005)


def test_mse_is_near_the_best_there_is() -> None:
    # Heavy tail: the best threshold is well below the largest value.
    values = np.random.default_rng(1).standard_t(3, 200_000)
    found = threshold(histogram_of(values), "mse")
    tried = np.abs(values).max() * np.linspace(0.005, 1, 400)
    best = min(squared_error(values, float(t)) for t in tried)
    assert squared_error(values, found) <= best * 1.02
    assert found < 0.8 * np.abs(values).max()


def test_mse_keeps_a_uniform_range() -> None:
    values = np.random.default_rng(2).uniform(-4, 4, 100_000)
    assert threshold(histogram_of(values), "mse") == pytest.approx(4, rel=0.03)


def test_entropy_cuts_a_lone_outlier() -> None:
    values = np.append(np.random.default_rng(3).normal(0, 1, 200_000), 40.0)
    found = threshold(histogram_of(values), "entropy")
    assert 3 < found < 20


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e4, 1e4, width=32)),
    st.sampled_from(METHODS),
)
def test_threshold_is_positive_and_within_the_data(values: np.ndarray, method: str) -> None:
    found = threshold(histogram_of(values), method)
    assert found > 0
    largest = float(np.abs(values).max())
    assert found <= largest or largest == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(-10, 10), st.sampled_from(METHODS))
def test_threshold_scales_with_the_data(power: int, method: str) -> None:
    values = np.random.default_rng(4).standard_t(4, 5_000).astype(np.float32)
    plain = threshold(histogram_of(values), method)
    assert threshold(histogram_of(values * 2.0**power), method) == pytest.approx(plain * 2.0**power)


def test_unknown_methods_and_percentiles_are_refused() -> None:
    histogram = histogram_of(np.ones(3))
    with pytest.raises(CalibrationError, match="Allowed: mse, percentile, entropy, minmax") as e:
        threshold(histogram, "max")
    assert e.value.reason == "BAD_OPTION"
    for wrong in (0, -1, 100.5):
        with pytest.raises(CalibrationError, match="at most 100"):
            threshold(histogram, "percentile", percentile=wrong)
