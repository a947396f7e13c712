"""Steadier class ids: a pixel changes its class when it is sure, or when the picture changes.

Networks look at each frame alone, so their answers flicker where they are unsure. Here the
answer before is moved along the optical flow into the frame, and a pixel keeps it until
several frames in a row say otherwise. Where the flow cannot be trusted (it does not lead there and
back, or the moved picture does not look like the frame: something came into view, a cut, a lost
and found stream) the network's answer counts at once, so nothing trails behind what moves.

Flow: dense inverse search (Kroeger et al. 2016, arXiv:1603.03590) on a small gray picture; there
and back: Sundaram et al. 2010.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import U8, now_ns
from rtseg.realtime.refine import Refiner, Seen
from rtseg.realtime.yuv import plane

if TYPE_CHECKING:
    import av

F32 = NDArray[np.float32]

DEFAULT_FRAMES = 2
MOST_FRAMES = 10

_GRAY_SIZE = (320, 160)
_CHANGED = 12  # gray levels between the frame and the moved one before, from which it is new
_RELATIVE, _ABSOLUTE = 0.01, 0.1  # tolerance of there and back: of squared lengths; squared pixels
_CUT = 0.8  # with so large a share of the picture new, all of it is
_LONGEST_GAP_S = 0.5


class Smoother(Refiner):
    """Steadies the class ids of one stream.

    Args:
        frames: how many frames in a row must give a pixel another class until it changes, 1
            (nothing is steadied) to :data:`MOST_FRAMES`.

    Raises:
        UsageError: a number outside its limits.
    """

    def __init__(self, frames: int = DEFAULT_FRAMES) -> None:
        if not 1 <= frames <= MOST_FRAMES:
            raise UsageError(f"smoothing takes 1 to {MOST_FRAMES} frames. Received: {frames}")
        self.frames = frames
        self._flow: Any = None
        self._gray: U8 | None = None
        self._state: U8 | None = None  # H×W×2: class ids, and for how many frames they are denied
        self._last_s = 0.0

    def push(self, seen: Seen) -> Sequence[Seen]:
        """Steady a frame's labels; see :meth:`Refiner.push`."""
        start_ns = now_ns()
        labels = self.steady(seen.frame.video, seen.labels, seen.frame.pts_s)
        spent_ms = seen.stages_ms.get("postprocess", 0.0) + (now_ns() - start_ns) / 1e6
        stages_ms = {**seen.stages_ms, "postprocess": spent_ms}
        return [dataclasses.replace(seen, labels=labels, stages_ms=stages_ms)]

    def steady(self, video: av.VideoFrame, labels: U8, pts_s: float) -> U8:
        """Return the class ids of the next frame, steadied.

        Args:
            video: the frame; any size, which may change.
            labels: uint8, H×W: its class ids.
            pts_s: its time, in seconds.

        Returns:
            uint8, H×W, a new array or ``labels`` itself.
        """
        if self.frames == 1:
            return labels
        gray, before = small_gray(video), self._gray
        gap_s, self._last_s, self._gray = pts_s - self._last_s, pts_s, gray
        if (
            before is None
            or self._state is None
            or self._state.shape[:2] != labels.shape
            or not 0 < gap_s <= _LONGEST_GAP_S
        ):
            return self._begin(labels)
        there, changed = self._compare(gray, before)
        if np.count_nonzero(changed) > _CUT * changed.size:
            return self._begin(labels)
        return self._vote(labels, there, changed)

    def _begin(self, labels: U8) -> U8:
        self._state = np.dstack((labels, np.zeros_like(labels)))
        return labels

    def _compare(self, gray: U8, before: U8) -> tuple[F32, U8]:
        """Return where each pixel was in the frame before, and which are new (255, others 0)."""
        import cv2

        if self._flow is None:
            self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        columns, rows = _GRAY_SIZE
        flow = np.asarray(self._flow.calc(gray, before, None), np.float32)
        back = np.asarray(self._flow.calc(before, gray, None), np.float32)
        there = flow + _positions()
        edge = cv2.BORDER_REPLICATE
        returned = np.asarray(cv2.remap(back, there, None, cv2.INTER_LINEAR, borderMode=edge))
        moved = cv2.remap(before, there, None, cv2.INTER_LINEAR, borderMode=edge)
        lengths = _squared(flow) + _squared(returned)
        lost = _squared(flow + returned) > _RELATIVE * lengths + _ABSOLUTE
        inside = cv2.inRange(there, (-0.5, -0.5, 0, 0), (columns - 0.5, rows - 0.5, 0, 0))
        changed = cv2.compare(cv2.absdiff(gray, moved), float(_CHANGED), cv2.CMP_GT)
        changed |= lost.view(np.uint8) * np.uint8(255) | cv2.bitwise_not(inside)
        return there, np.asarray(cv2.dilate(changed, np.ones((3, 3), np.uint8)), np.uint8)

    def _vote(self, labels: U8, there: F32, changed: U8) -> U8:
        """Return the classes before, moved, wherever they are neither new nor denied for long."""
        import cv2

        height, width = labels.shape
        rows, columns = there.shape[:2]
        x, y = width / columns, height / rows
        # positions are those of the pixels' centres
        where = cv2.resize(there, (width, height), interpolation=cv2.INTER_LINEAR)
        where = cv2.multiply(where, (x, y, 0.0, 0.0))
        where = cv2.add(where, ((x - 1) / 2, (y - 1) / 2, 0.0, 0.0))
        state = cv2.remap(
            self._state, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
        kept, denied = cv2.split(state)
        fresh = cv2.resize(changed, (width, height), interpolation=cv2.INTER_NEAREST)
        same = cv2.compare(kept, labels, cv2.CMP_EQ)
        denied = cv2.add(denied, 1.0)
        new = cv2.bitwise_or(fresh, cv2.compare(denied, float(self.frames), cv2.CMP_GE))
        out = np.asarray(cv2.copyTo(labels, new, kept.copy()), np.uint8)
        settled = cv2.bitwise_or(new, same)
        denied = cv2.bitwise_and(denied, cv2.bitwise_not(settled))
        self._state = np.asarray(cv2.merge((out, denied)), np.uint8)
        return out


def small_gray(video: av.VideoFrame) -> U8:
    """Return a frame's brightness at the size that flow is computed on."""
    import cv2

    if video.format.name in ("yuv420p", "yuvj420p", "nv12", "yuv422p", "yuvj422p", "yuv444p"):
        luma = plane(video, 0)
    else:
        luma = plane(video.reformat(format="gray"), 0)
    return np.asarray(cv2.resize(luma, _GRAY_SIZE, interpolation=cv2.INTER_AREA), np.uint8)


@lru_cache(maxsize=1)
def _positions() -> F32:
    columns, rows = _GRAY_SIZE
    x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
    return np.dstack((x, y))


def _squared(vectors: F32) -> F32:
    x, y = vectors[..., 0], vectors[..., 1]
    return np.asarray(x * x + y * y, np.float32)
