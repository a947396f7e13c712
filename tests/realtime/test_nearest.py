from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.realtime.nearest import NearestGrid, scale_nearest

length = st.integers(1, 70)


def reference(plane, height, width):
    """Half-pixel nearest neighbour in exact rational arithmetic, pixel by pixel."""
    rows = [(2 * y + 1) * plane.shape[0] // (2 * height) for y in range(height)]
    columns = [(2 * x + 1) * plane.shape[1] // (2 * width) for x in range(width)]
    return np.array([[plane[y, x] for x in columns] for y in rows], np.uint8)


@settings(max_examples=150, deadline=None)
@given(length, length, length, length, st.integers(0, 2**32 - 1))
def test_every_size_is_exact(height, width, new_height, new_width, seed):
    plane = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    wanted = reference(plane, new_height, new_width)
    grid = NearestGrid((height, width), (new_height, new_width))
    assert np.array_equal(grid.scale(plane), wanted)
    assert np.array_equal(grid.scale(plane), wanted)
    assert np.array_equal(scale_nearest(plane, new_height, new_width), wanted)


def test_whole_factors_repeat_and_sizes_of_video_are_exact():
    labels = np.random.default_rng(0).integers(0, 19, (512, 1024), np.uint8)
    doubled = scale_nearest(labels, 1024, 2048)
    assert np.array_equal(doubled, labels.repeat(2, 0).repeat(2, 1))
    grid = NearestGrid((512, 1024), (720, 1280))
    rows = np.floor((np.arange(720) + 0.5) * 512 / 720).astype(int)
    columns = np.floor((np.arange(1280) + 0.5) * 1024 / 1280).astype(int)
    assert np.array_equal(grid.scale(labels), labels[rows][:, columns])
