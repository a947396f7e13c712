"""The rule by which class ids are brought to another size."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.nearest import nearest_index, scale_nearest


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_indices_stay_inside_and_never_go_back(source: int, target: int) -> None:
    index = nearest_index(source, target)
    assert len(index) == target
    assert index[0] >= 0
    assert index[-1] < source
    assert (np.diff(index) >= 0).all()


def test_class_ids_are_not_mixed() -> None:
    labels = np.array([[0, 18], [3, 255]], np.uint8)
    big = scale_nearest(labels, 4, 6)
    assert np.array_equal(big, np.repeat(np.repeat(labels, 2, 0), 3, 1))
