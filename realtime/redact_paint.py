"""Makes what a region shows unrecognisable, in the planes of a YUV 4:2:0 picture.

Nothing finer than a cell leaves a covered region: mosaic and blur are both made of the cells'
mean colours, rounded to 4 and 5 bits a channel, and ``fill`` has no colour of the region at all.
Cells grow with the region, because a face close by survives cells that hide a face far away
(McPherson et al. 2016, arXiv:1609.00408, recognise people through small cells).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rtseg.realtime.frame import U8
from rtseg.realtime.redact_region import highest_of

RedactStyle = Literal["pixelate", "blur", "fill"]
STYLES: tuple[RedactStyle, ...] = get_args(RedactStyle)

CELLS_HIGH = 8
"""A detection is at most so many cells high."""

CELLS_ALONG = 45
"""The finest cells: so many along the shorter side of a frame, at most."""

_STEPS = (16, 8, 8)  # means of Y, U, V are rounded to multiples of it, gray to itself
_FILL = (72, 128, 128)

Planes = tuple[U8, U8, U8]


@dataclass(frozen=True)
class _Covered:
    """Which cells of a window of the grid are covered, and how coarsely.

    Attributes:
        top, left: the window's first row and column, multiples of the coarsest cell in it.
        level: int8, rows×columns: how often the squares of :attr:`Mosaic.cell` are doubled, at
            least once, -1 where nothing is covered.
    """

    top: int
    left: int
    level: NDArray[np.int8]


class Mosaic:
    """Covers regions of frames of one size.

    Args:
        width: columns of the frames, in pixels.
        height: rows.
        style: ``pixelate`` (flat cells), ``blur`` (the same, smooth) or ``fill`` (gray).
    """

    def __init__(self, width: int, height: int, style: RedactStyle = "pixelate") -> None:
        self.size = (width, height)
        self._style = style
        #: What is covered is covered in whole squares of so many pixels, half the side of the
        #: finest cells; even, so that chroma has whole ones too.
        self.cell = max(4, 2 * math.ceil(min(width, height) / CELLS_ALONG / 4))
        self._rows, self._columns = -(-height // self.cell), -(-width // self.cell)

    def covered(self, regions: U8) -> NDArray[np.bool_]:
        """Return which pixels of the frame :meth:`paint` covers, bool, height×width."""
        mask = np.zeros((self._rows, self._columns), bool)
        found = self._cells(regions)
        if found is not None:
            rows, columns = found.level.shape
            window = slice(found.top, found.top + rows), slice(found.left, found.left + columns)
            mask[window] = found.level >= 0
        full = mask.repeat(self.cell, 0).repeat(self.cell, 1)
        return np.asarray(full[: self.size[1], : self.size[0]])

    def paint(self, planes: Planes, regions: U8) -> None:
        """Cover regions of a picture.

        Args:
            planes: its Y, U and V, written to.
            regions: what :class:`~rtseg.realtime.redact_region.Regions` says of the frame.
                Cells that are touched are covered whole.
        """
        import cv2

        found = self._cells(regions)
        if found is None:
            return
        rows, columns = found.level.shape
        mask = (found.level >= 0).view(np.uint8) * np.uint8(255)
        for index, plane in enumerate(planes):
            cell = self.cell if index == 0 else self.cell // 2
            part = plane[
                found.top * cell : (found.top + rows) * cell,
                found.left * cell : (found.left + columns) * cell,
            ]
            if self._style == "fill":
                values = np.full(found.level.shape, _FILL[index], np.uint8)
            else:
                values = _coarse(_means(part, cell, rows, columns), found.level)
                values = _rounded(values, _STEPS[index])
            size = (columns * cell, rows * cell)
            if self._style == "blur":
                smooth = _soften(values, found.level)
                colours = cv2.resize(smooth, size, interpolation=cv2.INTER_LINEAR)
            else:
                colours = cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)
            where = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            height, width = part.shape
            cv2.copyTo(colours[:height, :width], where[:height, :width], part)

    def _cells(self, regions: U8) -> _Covered | None:
        """Return the cells that regions touch, each as coarse as its region is high."""
        sizes = np.flatnonzero(np.bincount(regions.ravel(), minlength=1))
        sizes = sizes[sizes > 0]
        if not sizes.size:
            return None
        level = np.full((self._rows, self._columns), -1, np.int8)
        for size in sizes:
            cells_high = highest_of(int(size), self.size[1]) / self.cell
            number = max(1, math.ceil(math.log2(cells_high / CELLS_HIGH)))
            touched = _touched(regions == size, self.size, self.cell, level.shape)
            level[touched] = np.maximum(level[touched], np.int8(number))
        rows, columns = np.flatnonzero((level >= 0).any(1)), np.flatnonzero((level >= 0).any(0))
        step = 1 << int(level.max())
        top, left = rows[0] // step * step, columns[0] // step * step
        below, right = (rows[-1] // step + 1) * step, (columns[-1] // step + 1) * step
        window = np.ascontiguousarray(level[top:below, left:right])
        return _Covered(int(top), int(left), window)


def _touched(
    region: NDArray[np.bool_], size: tuple[int, int], cell: int, cells: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Return which cells overlap a region, however little."""
    import cv2

    sums = cv2.integral(region.view(np.uint8))
    first_row, last_row = _span(cells[0], cell, size[1], region.shape[0])
    first_column, last_column = _span(cells[1], cell, size[0], region.shape[1])
    below, above = sums[last_row], sums[first_row]
    inside = below[:, last_column] - below[:, first_column]
    inside -= above[:, last_column] - above[:, first_column]
    return np.asarray(inside > 0)


def _span(
    cells: int, cell: int, length_px: int, grid: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and one past the last place of the grid under each cell."""
    edges = np.arange(cells + 1, dtype=np.int64) * cell
    first = edges[:-1] * grid // length_px
    last = -(-np.minimum(edges[1:], length_px) * grid // length_px)
    return np.minimum(first, grid), np.minimum(last, grid)


def _means(part: U8, cell: int, rows: int, columns: int) -> U8:
    """Return each cell's mean; cells over the frame's edge repeat its last pixels."""
    import cv2

    height, width = part.shape
    below, right = rows * cell - height, columns * cell - width
    if below or right:
        part = np.asarray(
            cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8
        )
    return np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)


def _coarse(means: U8, level: NDArray[np.int8]) -> U8:
    """Return the colour of every cell, that of coarse cells from all that they cover."""
    values: U8 = means.copy()
    for number in range(1, int(level.max()) + 1):
        where = level == number
        if where.any():
            side = 1 << number
            blocks = _blocks(means, side).mean(axis=(1, 3))
            wide = blocks.repeat(side, 0).repeat(side, 1)[: means.shape[0], : means.shape[1]]
            values[where] = wide[where].astype(np.uint8)
    return values


def _rounded(values: U8, step: int) -> U8:
    """Return values rounded to multiples of a power of 2, within uint8."""
    nearest = np.minimum(values.astype(np.uint16) + step // 2, 255).astype(np.uint8)
    return np.asarray(nearest & np.uint8(256 - step), np.uint8)


def _soften(values: U8, level: NDArray[np.int8]) -> U8:
    """Return cells whose colours run into each other; made of the cells' colours alone."""
    import cv2

    smooth: U8 = values.copy()
    for number in range(int(level.max()) + 1):
        where = level == number
        if where.any():
            soft = cv2.GaussianBlur(values, (0, 0), 0.6 * (1 << number))
            smooth[where] = np.asarray(soft)[where]
    return smooth


def _blocks(image: U8, side: int) -> U8:
    """Return an image as rows of blocks of side×side; the edges' last values are repeated."""
    below, right = -image.shape[0] % side, -image.shape[1] % side
    if below or right:
        image = np.pad(image, ((0, below), (0, right)), mode="edge")
    return image.reshape(image.shape[0] // side, side, image.shape[1] // side, side)
