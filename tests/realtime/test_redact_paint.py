"""What is left of a covered region: cells, and nothing finer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.realtime.redact_paint import (
    CELLS_ALONG,
    CELLS_HIGH,
    STYLES,
    Mosaic,
    Planes,
    RedactStyle,
    _rounded,
)
from rtseg.realtime.redact_region import SIZES, highest_of
from tests.realtime.parts import U8

WIDTH, HEIGHT = 640, 362


def noise(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Planes:
    random = np.random.default_rng(seed)
    half = (-(-height // 2), -(-width // 2))
    return (
        random.integers(16, 236, (height, width), np.uint8),
        random.integers(16, 240, half, np.uint8),
        random.integers(16, 240, half, np.uint8),
    )


def copies(planes: Planes) -> Planes:
    y, u, v = planes
    return y.copy(), u.copy(), v.copy()


def somewhere(size: int = 1) -> U8:
    regions = np.zeros((256, 256), np.uint8)
    regions[100:180, 90:130] = size
    return regions


def shuffled(plane: U8, cell: int) -> U8:
    """Mix the pixels of every whole cell."""
    mixed = plane.copy()
    random = np.random.default_rng(5)
    for top in range(0, plane.shape[0] - cell + 1, cell):
        for left in range(0, plane.shape[1] - cell + 1, cell):
            block = mixed[top : top + cell, left : left + cell]
            block[:] = random.permutation(block.ravel()).reshape(cell, cell)
    return mixed


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [1, 3, SIZES])
def test_nothing_finer_than_a_cell_is_left(style: RedactStyle, size: int) -> None:
    mosaic = Mosaic(WIDTH, HEIGHT, style)
    first = noise()
    cells = (mosaic.cell, mosaic.cell // 2, mosaic.cell // 2)
    y, u, v = (shuffled(plane, cell) for plane, cell in zip(first, cells, strict=True))
    second: Planes = (y, u, v)
    covered = mosaic.covered(somewhere(size))
    for planes in (first, second):
        mosaic.paint(planes, somewhere(size))
    assert (first[0][covered] == second[0][covered]).all()
    half = covered[::2, ::2]
    assert (first[1][half] == second[1][half]).all()
    assert (first[2][half] == second[2][half]).all()


@pytest.mark.parametrize("style", STYLES)
def test_everything_else_stays_as_it_was(style: RedactStyle) -> None:
    mosaic, planes = Mosaic(WIDTH, HEIGHT, style), noise()
    before = copies(planes)
    mosaic.paint(planes, somewhere())
    covered = mosaic.covered(somewhere())
    assert 0.02 < covered.mean() < 0.1
    assert (planes[0][~covered] == before[0][~covered]).all()
    assert (planes[0][covered] != before[0][covered]).mean() > 0.9
    half = covered[::2, ::2]
    for index in (1, 2):
        assert (planes[index][~half] == before[index][~half]).all()


def test_fill_has_no_colour_of_the_region() -> None:
    mosaic = Mosaic(WIDTH, HEIGHT, "fill")
    covered = mosaic.covered(somewhere())
    planes = noise()
    mosaic.paint(planes, somewhere())
    assert len(np.unique(planes[0][covered])) == 1
    assert (planes[1][covered[::2, ::2]] == 128).all()


@pytest.mark.parametrize("size", range(1, SIZES + 1))
def test_a_detection_is_only_so_many_cells_high(size: int) -> None:
    mosaic = Mosaic(WIDTH, HEIGHT)
    planes = noise()
    whole = np.full((256, 256), size, np.uint8)
    mosaic.paint(planes, whole)
    changes = np.count_nonzero(np.any(np.diff(planes[0].astype(int), axis=0), axis=1))
    cell = HEIGHT / (changes + 1)
    assert highest_of(size, HEIGHT) / cell <= CELLS_HIGH + 0.5


@pytest.mark.parametrize(
    ("width", "height"),
    [(64, 40), (512, 256), (640, 360), (800, 450), (640, 480), (1280, 720), (720, 1280)],
)
def test_the_finest_cells_are_a_forty_fifth_of_the_shorter_side(width: int, height: int) -> None:
    mosaic, planes = Mosaic(width, height), noise(width, height)
    mosaic.paint(planes, np.ones((256, 256), np.uint8))
    for axis in (0, 1):
        differences = np.diff(planes[0].astype(int), axis=axis)
        edges = np.flatnonzero(np.any(differences, axis=1 - axis)) + 1
        assert len(edges) > 0
        assert (edges % (2 * mosaic.cell) == 0).all()
        assert np.diff(edges).min() >= min(width, height) / CELLS_ALONG


def test_colours_are_rounded_and_gray_stays_gray() -> None:
    planes = noise()
    Mosaic(WIDTH, HEIGHT).paint(planes, np.ones((8, 8), np.uint8))
    assert set(np.unique(planes[0]) % 16) == {0}
    assert set(np.unique(planes[1]) % 8) == {0}
    gray = np.full((HEIGHT, WIDTH), 255, np.uint8), planes[1], planes[2]
    gray[1][:] = gray[2][:] = 128
    Mosaic(WIDTH, HEIGHT).paint(gray, np.ones((8, 8), np.uint8))
    assert (gray[0] == 240).all()
    assert (gray[1] == 128).all()


def test_where_nothing_is_found_nothing_changes() -> None:
    planes = noise()
    before = copies(planes)
    Mosaic(WIDTH, HEIGHT).paint(planes, np.zeros((256, 256), np.uint8))
    for plane, old in zip(planes, before, strict=True):
        assert (plane == old).all()


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(1, 60),
    st.sampled_from(STYLES), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_size_of_frame_and_grid_is_covered_wholly(
    width: int, height: int, columns: int, rows: int, style: RedactStyle, seed: int
) -> None:
    random = np.random.default_rng(seed)
    regions = np.where(
        random.random((rows, columns)) < 0.1, random.integers(1, SIZES + 1, (rows, columns)), 0
    ).astype(np.uint8)
    mosaic = Mosaic(width, height, style)
    covered = mosaic.covered(regions)
    assert covered.shape == (height, width)
    for y in range(height):
        for x in range(width):
            # the places of the grid that this pixel overlaps
            part = regions[
                y * rows // height : -(-(y + 1) * rows // height),
                x * columns // width : -(-(x + 1) * columns // width),
            ]
            assert covered[y, x] or not part.any()
    planes = noise(width, height, seed)
    before = copies(planes)
    mosaic.paint(planes, regions)
    assert (planes[0][~covered] == before[0][~covered]).all()
    if style == "fill" and covered.any():
        assert set(np.unique(planes[0][covered])) == {72}
        half = covered[::2, ::2]
        assert set(np.unique(planes[1][half])) == {128}


@pytest.mark.parametrize("style", STYLES)
def test_a_window_of_few_cells_is_covered(style: RedactStyle) -> None:
    """OpenCV takes an array of four rows and one column for a colour."""
    mosaic = Mosaic(32, 32, style)
    for rows in range(1, 6):
        for columns in range(1, 6):
            regions = np.zeros((8, 8), np.uint8)
            regions[:rows, :columns] = 1
            planes = noise(32, 32)
            mosaic.paint(planes, regions)
            covered = mosaic.covered(regions)
            assert covered.sum() == rows * columns * mosaic.cell**2
            assert (planes[0] != noise(32, 32)[0])[covered].mean() > 0.8


@pytest.mark.parametrize("step", [1, 2, 16, 128])
@pytest.mark.parametrize("shape", [(256, 1), (4, 64), (64, 4)])
def test_values_are_rounded_to_the_nearest_step(step: int, shape: tuple[int, int]) -> None:
    rounded = _rounded(np.arange(256, dtype=np.uint8).reshape(shape), step)
    expected = np.minimum(np.arange(256) + step // 2, 255) // step * step
    assert rounded.shape == shape
    assert (rounded.ravel() == expected).all()
