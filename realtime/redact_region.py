"""Where a frame is to be covered: detections with a margin, held over the frames around them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from rtseg.realtime.frame import U8

HELD_FRAMES = 5
"""Detections are held for at least so many frames, however long those take."""

SIZES = 6
"""Detections are told apart by height: size 1 for the lowest, each next one twice as high."""

_FINEST = 256  # places along the shorter side of the grid that regions are kept on
_LOWEST = 0.09  # height of the largest detections of size 1, as a share of the frame's
_FULL = 250  # a region's time at the moment of detection; it runs down to 0
_OLD = 150  # with less time left a region may have moved on, and gets twice the margin
_LONGEST_STEP_S = 1.0


def highest_of(size: int, height: int) -> float:
    """Return how high, in pixels, a detection of a size may be in a frame of ``height`` rows."""
    return _LOWEST * height * float(1 << (size - 1))


class Regions:
    """Turns the class ids of a stream's frames, in order, into the regions to cover.

    Every detection is grown by a margin and held: what was covered stays so for ``hold_s``
    seconds and at least :data:`HELD_FRAMES` frames after its last detection, of which the
    later ones get twice the margin, as whoever is there moves on.

    Args:
        classes: ids of the classes to cover.
        margin: growth of every region on each side, as a share of the frame's shorter side.
        hold_s: how long a region outlives its detection, in seconds; 0 not at all.
    """

    def __init__(
        self, classes: Iterable[int], *, margin: float = 0.04, hold_s: float = 0.5
    ) -> None:
        self._table = np.zeros(256, np.uint8)
        self._table[list(classes)] = 255
        self._margin = margin
        self._hold_s = hold_s
        self._frame = (0, 0)
        self._last_s: float | None = None
        #: How long each place stays covered, and for detections of which size; 0 where not.
        self._timer: U8 | None = None
        self._sizes: U8 | None = None
        self._appeared: U8 | None = None

    def update(self, labels: U8, width: int, height: int, pts_s: float) -> U8:
        """Take the next frame's class ids and return the regions to cover in it.

        Args:
            labels: uint8, H×W at any size: class ids.
            width: the frame's columns, in pixels.
            height: its rows.
            pts_s: its time, in seconds.

        Returns:
            uint8, rows×columns of a grid over the whole frame: 0 where it is not covered,
            elsewhere the size, 1 to :data:`SIZES`, of the detection that is covered.
        """
        found = self._found(labels)
        if self._frame != (width, height) or (
            self._timer is not None and self._timer.shape != found.shape
        ):
            self._frame, self._timer = (width, height), None
        spent_s = _LONGEST_STEP_S if self._last_s is None else pts_s - self._last_s
        self._last_s = pts_s
        self._appeared = None
        if self._hold_s <= 0:
            return self._grown(found)
        if self._timer is None or self._sizes is None:
            self._timer = np.where(found, np.uint8(_FULL), np.uint8(0))
            self._sizes = found
        elif self._timer.any() or found.any():
            self._hold(found, spent_s if 0 < spent_s < _LONGEST_STEP_S else _LONGEST_STEP_S)
        old = np.where(self._timer < _OLD, self._sizes, np.uint8(0))
        return np.maximum(self._grown(self._sizes), self._grown(old, 2))

    def before(self) -> U8 | None:
        """Return what to cover besides in the frames before the last one, or None.

        Somebody who appears in the middle of a picture was there before, unseen.
        """
        return None if self._appeared is None else self._grown(self._appeared, 2)

    def _hold(self, found: U8, spent_s: float) -> None:
        """Let time pass for what was found before, and add what is found now."""
        import cv2

        assert self._timer is not None
        assert self._sizes is not None
        appeared = np.where(self._grown(self._sizes) == 0, found, np.uint8(0))
        self._appeared = appeared if appeared.any() else None
        step = math.ceil(_FULL * spent_s / self._hold_s)
        step = max(1, min(step, _FULL // HELD_FRAMES))
        left = np.asarray(cv2.subtract(self._timer, float(step)), np.uint8)
        held = np.where(left > 0, self._sizes, np.uint8(0))
        self._sizes = np.maximum(held, found)
        self._timer = np.where(found, np.uint8(_FULL), left)

    def _found(self, labels: U8) -> U8:
        """Return the size of each detection where it is, on the grid; none is too small."""
        import cv2

        found = np.asarray(cv2.LUT(np.ascontiguousarray(labels), self._table), np.uint8)
        factor = round(min(labels.shape) / _FINEST)
        if factor > 1:
            reach = factor - 1
            found = _dilate(found, reach, reach)[factor // 2 :: factor, factor // 2 :: factor]
            found = np.ascontiguousarray(found)
        if not found.any():
            return found
        count, names, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
        share = stats[1:count, cv2.CC_STAT_HEIGHT] / (_LOWEST * found.shape[0])
        sizes = np.zeros(count, np.uint8)
        sizes[1:] = np.clip(np.ceil(np.log2(share)) + 1, 1, SIZES)
        return np.asarray(sizes[names], np.uint8)

    def _grown(self, regions: U8, times: int = 1) -> U8:
        """Return regions with their margin, or several times their margin."""
        width, height = self._frame
        rows, columns = regions.shape
        margin_px = times * self._margin * min(width, height)
        if margin_px <= 0 or not regions.any():
            return regions
        across = math.ceil(margin_px * columns / width)
        return _dilate(regions, across, math.ceil(margin_px * rows / height))


def _dilate(image: U8, across: int, down: int) -> U8:
    """Return each pixel's largest neighbour within a rectangle."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * across + 1, 2 * down + 1))
    return np.asarray(cv2.dilate(image, kernel), np.uint8)
