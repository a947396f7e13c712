"""Exact nearest-neighbour scaling of class ids: one rule for the loop and for whoever judges it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]


def nearest_index(source: int, target: int) -> NDArray[np.intp]:
    """Return the source position of every target position, half-pixel convention.

    Target pixel ``i`` has its centre at ``(i + 0.5) * source / target`` and takes the source
    pixel in which that point lies: ``floor((2 * i + 1) * source / (2 * target))``, computed
    in integers.

    Args:
        source: how many positions there are, at least 1.
        target: how many there shall be, at least 1.

    Returns:
        intp (target,): from 0 to ``source`` - 1, never falling.
    """
    return ((2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)).astype(np.intp)


def scale_nearest(plane: U8, height: int, width: int) -> U8:
    """Scale class ids by nearest neighbour (:func:`nearest_index`).

    Args:
        plane: uint8, H×W.
        height: rows of the result, in pixels.
        width: columns of it.

    Returns:
        uint8, height×width, a new array.
    """
    source = (plane.shape[0], plane.shape[1])
    rows, columns = _indices(source, (height, width))
    return np.ascontiguousarray(plane[rows[:, None], columns[None, :]])


@lru_cache(maxsize=4)
def _indices(
    source: tuple[int, int], target: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return nearest_index(source[0], target[0]), nearest_index(source[1], target[1])
