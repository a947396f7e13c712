"""Class ids at full size from scores at a fraction of it, exact, without enlarging them all.

An argmax after linear upsampling looks at every score of every pixel: ten megabytes a
512×512 frame, a quarter of a small network's time. Most of it is needless. A pixel's
scores are a weighted mean of the four nearest grid points; where one class leads at all
four, it leads at every pixel between them. Only the cells in which the leader changes,
the outlines of things, need the scores, and there only the classes that can win.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.engine import U8

F32 = NDArray[np.float32]


class _Axis:
    """How pixels lie between grid points along one axis.

    Cell ``c`` lies between the grid points ``c - 1`` and ``c``. The first and the last are half
    outside: there both ends are the same point, and any weights that add up to 1 do.

    Attributes:
        span: most pixels in a cell.
        weights: of a cell's two ends at each of its pixels, float32 (2, span, cells); where a
            cell has fewer pixels than ``span``, the rest is of no use.
        alike: whether the weights of the second cell do for all.
        places: where the pixels are among ``cells * span``, in order, intp (pixels,).
        stretch: the same as a slice, where they lie side by side.
    """

    def __init__(self, points: int, pixels: int, aligned: bool) -> None:
        if aligned:  # the first and the last of both lie on each other
            steps = max(1, pixels - 1)
            low, rest = np.divmod(np.arange(pixels) * (points - 1), steps)
        else:  # in halves of a pixel, so that whole numbers tell the cell
            steps = 2 * pixels
            low, rest = np.divmod((2 * np.arange(pixels) + 1) * points - pixels, steps)
        part = rest / steps
        cell = np.asarray(low + 1, np.intp)
        count = np.bincount(cell, minlength=points + 1)
        within = np.arange(pixels) - np.searchsorted(cell, cell)
        self.span = int(count.max())
        within[cell == 0] += self.span - count[0]  # next to the second cell
        self.weights = np.zeros((2, self.span, points + 1), np.float32)
        self.weights[:, within, cell] = 1 - part, part
        self.weights[0, :, [0, -1]], self.weights[1, :, [0, -1]] = 1, 0
        inner = self.weights[..., 1:-1]
        self.alike = bool((inner == inner[..., :1]).all() and (count[1:-1] == self.span).all())
        self.places = np.asarray(cell * self.span + within, np.intp)
        together = bool((np.diff(self.places) == 1).all())
        self.stretch = slice(self.places[0], self.places[-1] + 1) if together else None


class LabelUpsampler:
    """Computes ``argmax(resize(scores, linear))`` for one size.

    It keeps nothing between calls: several threads may share it. Quickest where the labels have
    a whole number of pixels for each grid point.

    Args:
        rows: rows of the score grid.
        columns: columns of the score grid.
        height: rows of the labels, at least ``rows``.
        width: columns of the labels, at least ``columns``.
        aligned: False for half-pixel coordinates; True where the corners of both lie on each other
            (``align_corners``).
    """

    def __init__(
        self, rows: int, columns: int, height: int, width: int, aligned: bool = False
    ) -> None:
        if not (1 <= rows <= height and 1 <= columns <= width):
            raise ValueError(
                "labels have at least as many rows and columns as the scores. "
                f"Received: {width}x{height} from {columns}x{rows}"
            )
        self._rows, self._columns = rows, columns
        self._down = _Axis(rows, height, aligned)
        self._across = _Axis(columns, width, aligned)
        #: Where the labels lie in what `labels` fills, if not side by side.
        self._places: NDArray[np.intp] | None = None
        if self._down.stretch is None or self._across.stretch is None:
            line = self._across.span * (columns + 1)
            self._places = self._down.places[:, None] * line + self._across.places
        #: Of a cell's four corners at each of its pixels, where that is the same for all cells.
        self._weights: F32 | None = None
        if self._down.alike and self._across.alike:
            down, across = self._down.weights[..., 1], self._across.weights[..., 1]
            both = np.einsum("ay,bx->abyx", down, across)
            self._weights = np.ascontiguousarray(both.reshape(4, -1))

    def labels(self, scores: F32, out: U8) -> None:
        """Fill ``out`` (height × width) from ``scores`` (C × rows × columns)."""
        down, across = self._down, self._across
        leaders = np.pad(_argmax(scores), 1, mode="edge")
        upper_left = leaders[:-1, :-1]
        mixed = upper_left != leaders[1:, :-1]
        mixed |= upper_left != leaders[:-1, 1:]
        mixed |= upper_left != leaders[1:, 1:]
        rows, columns = mixed.shape
        large = np.empty((rows, down.span, columns * across.span), np.uint8)
        large[:] = upper_left.repeat(across.span, axis=1)[:, None]
        y, x = np.nonzero(mixed)
        if y.size:
            cells = large.reshape(rows, down.span, columns, across.span)
            cells[y, :, x, :] = self._resolve(scores, y, x)
        filled = large.reshape(rows * down.span, -1)
        if self._places is None:
            out[:] = filled[down.stretch, across.stretch]
        else:  # clipping nothing: the mode that takes without a copy
            np.take(filled, self._places, out=out, mode="clip")

    def _resolve(self, scores: F32, y: NDArray[np.intp], x: NDArray[np.intp]) -> U8:
        """Return the class ids of cells (n × span × span) whose corners disagree."""
        above, below = np.maximum(y - 1, 0), np.minimum(y, self._rows - 1)
        left, right = np.maximum(x - 1, 0), np.minimum(x, self._columns - 1)
        rows = [row * self._columns for row in (above, below)]
        places = np.concatenate([row + column for row in rows for column in (left, right)])
        corners = scores.reshape(len(scores), -1).take(places, axis=1)
        corners = corners.reshape(len(scores), 4, y.size)
        # A class cannot win in a cell where its best corner is below another's worst one.
        bar = corners.min(axis=1).max(axis=0)
        able = corners.max(axis=1) >= bar
        best = np.full((y.size, self._down.span * self._across.span), -np.inf, np.float32)
        ids = np.zeros(best.shape, np.uint8)
        # Class by class: all pairs of cell and class at once take twice as long in noisy pictures.
        for index in np.flatnonzero(able.any(axis=1)):
            some = np.flatnonzero(able[index])
            values = self._blend(corners[index].take(some, axis=1), y, x, some)
            there = best.take(some, axis=0)
            leads = values > there
            best[some] = np.maximum(there, values, out=there)
            winners = ids.take(some, axis=0)
            winners[leads] = index
            ids[some] = winners
        return ids.reshape(-1, self._down.span, self._across.span)

    def _blend(
        self, corners: F32, y: NDArray[np.intp], x: NDArray[np.intp], cells: NDArray[np.intp]
    ) -> F32:
        """Return a class's scores (n × pixels) in ``cells`` of y and x, from (4 × n) corners."""
        if self._weights is not None:
            return np.asarray(corners.T @ self._weights, np.float32)
        down = self._down.weights.take(y.take(cells), axis=2)
        across = self._across.weights.take(x.take(cells), axis=2)
        rows = corners.reshape(2, 2, 1, -1)
        upper, lower = rows[:, 0] * across[0] + rows[:, 1] * across[1]
        values = upper * down[0][:, None] + lower * down[1][:, None]
        return np.asarray(values.reshape(-1, len(cells)).T, np.float32, order="C")


def _argmax(scores: F32) -> U8:
    """Return the leading class of each grid point; numpy's own argmax is slow on axis 0."""
    best = scores[0].copy()
    ids = np.zeros(best.shape, np.uint8)
    for index in range(1, len(scores)):
        leads = scores[index] > best
        np.copyto(ids, np.uint8(index), where=leads)
        np.maximum(best, scores[index], out=best)
    return ids
