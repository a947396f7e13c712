"""Streaming histograms of magnitudes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtseg.calibration.histogram import BINS, MagnitudeHistogram

finite = st.floats(-1e6, 1e6, width=32)
arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=20), elements=finite)


@settings(deadline=None)
@given(st.lists(arrays, min_size=1, max_size=6), st.randoms())
def test_order_and_chunks_do_not_matter(parts: list[np.ndarray], random: object) -> None:
    together = MagnitudeHistogram()
    together.add(np.concatenate([part.reshape(-1) for part in parts]))
    random.shuffle(parts)  # type: ignore[attr-defined]
    streamed = MagnitudeHistogram()
    for part in parts:
        streamed.add(part)
    assert streamed.largest == together.largest
    assert streamed.limit == together.limit
    np.testing.assert_array_equal(streamed.counts, together.counts)


@settings(deadline=None)
@given(arrays)
def test_every_value_lies_in_its_bin(values: np.ndarray) -> None:
    histogram = MagnitudeHistogram()
    histogram.add(values)
    assert histogram.seen == values.size == histogram.counts.sum()
    assert histogram.largest == np.abs(values).max()
    assert histogram.largest < histogram.limit
    edges = np.arange(BINS + 1) * histogram.width
    expected, _ = np.histogram(np.abs(values.astype(np.float64)), edges)
    np.testing.assert_array_equal(histogram.counts, expected)


@settings(deadline=None)
@given(arrays.filter(lambda a: np.abs(a).max() > 1e-15))
def test_range_is_used(values: np.ndarray) -> None:
    histogram = MagnitudeHistogram()
    histogram.add(values)
    assert histogram.limit <= 2 * histogram.largest


def test_step_counts_some_and_sees_all() -> None:
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    values[501] = 9
    histogram = MagnitudeHistogram()
    histogram.add(values, step=10, start=3)
    assert histogram.counts.sum() == 100
    assert histogram.seen == 1000
    assert histogram.largest == 9


def test_share_above_counts_the_tail() -> None:
    histogram = MagnitudeHistogram()
    histogram.add(np.arange(100, dtype=np.float32))
    assert histogram.share_above(89.5) == pytest.approx(0.1)
    assert histogram.share_above(1000) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        MagnitudeHistogram().add(np.array([1, bad, 2], np.float32))


def test_nothing_and_zeros_are_fine() -> None:
    histogram = MagnitudeHistogram()
    histogram.add(np.zeros((0, 3), np.float32))
    assert histogram.seen == 0
    histogram.add(np.zeros(7, np.float32))
    assert histogram.counts[0] == 7
    assert histogram.share_above(0.5) == 0
