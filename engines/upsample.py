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


class LabelUpsampler:
    """Computes ``argmax(resize(scores, linear, half-pixel))`` for one size.

    It keeps nothing between calls: several threads may share it.

    Args:
        rows: rows of the score grid.
        columns: columns of the score grid.
        factor: how much larger the labels are, an even number: with an odd one, pixels
            would lie on the borders of cells.
    """

    def __init__(self, rows: int, columns: int, factor: int) -> None:
        if factor < 2 or factor % 2:
            raise ValueError(f"the factor must be an even number from 2. Received: {factor}")
        self._rows, self._columns, self._factor = rows, columns, factor
        # Weights of a cell's four corners at each of its factor × factor pixels.
        right = (np.arange(factor) + 0.5) / factor
        one_axis = np.stack((1 - right, right), axis=1)
        both = np.einsum("ya,xb->yxab", one_axis, one_axis).reshape(factor * factor, 4)
        self._weights = both.astype(np.float32)

    def labels(self, scores: F32, out: U8) -> None:
        """Fill ``out`` (rows·factor × columns·factor) from ``scores`` (C × rows × columns)."""
        factor, rows, columns = self._factor, self._rows, self._columns
        leaders = np.pad(_argmax(scores), 1, mode="edge")
        upper_left = leaders[:-1, :-1]
        mixed = upper_left != leaders[1:, :-1]
        mixed |= upper_left != leaders[:-1, 1:]
        mixed |= upper_left != leaders[1:, 1:]
        # A cell lies between four grid points; those of the rim are half outside.
        large = np.empty((rows + 1, factor, (columns + 1) * factor), np.uint8)
        large[:] = upper_left.repeat(factor, axis=1)[:, None]
        down, across = np.nonzero(mixed)
        if down.size:
            cells = large.reshape(rows + 1, factor, columns + 1, factor)
            cells[down, :, across, :] = self._resolve(scores, down, across)
        half = factor // 2
        out[:] = large.reshape(-1, large.shape[2])[half:-half, half:-half]

    def _resolve(self, scores: F32, down: NDArray[np.intp], across: NDArray[np.intp]) -> U8:
        """Return the class ids of cells (n × factor × factor) whose corners disagree."""
        above, below = np.maximum(down - 1, 0), np.minimum(down, self._rows - 1)
        left, right = np.maximum(across - 1, 0), np.minimum(across, self._columns - 1)
        rows = [row * self._columns for row in (above, below)]
        places = np.concatenate([row + column for row in rows for column in (left, right)])
        corners = scores.reshape(len(scores), -1).take(places, axis=1)
        corners = corners.reshape(len(scores), 4, down.size)
        # A class cannot win in a cell where its best corner is below another's worst one.
        bar = corners.min(axis=1).max(axis=0)
        able = corners.max(axis=1) >= bar
        best = np.full((down.size, self._factor**2), -np.inf, np.float32)
        ids = np.zeros(best.shape, np.uint8)
        for index in np.flatnonzero(able.any(axis=1)):
            some = np.flatnonzero(able[index])
            values = corners[index].take(some, axis=1).T @ self._weights.T
            there = best.take(some, axis=0)
            leads = values > there
            best[some] = np.maximum(there, values, out=there)
            winners = ids.take(some, axis=0)
            winners[leads] = index
            ids[some] = winners
        return ids.reshape(-1, self._factor, self._factor)


def _argmax(scores: F32) -> U8:
    """Return the leading class of each grid point; numpy's own argmax is slow on axis 0."""
    best = scores[0].copy()
    ids = np.zeros(best.shape, np.uint8)
    for index in range(1, len(scores)):
        leads = scores[index] > best
        np.copyto(ids, np.uint8(index), where=leads)
        np.maximum(best, scores[index], out=best)
    return ids
