"""Redaction: people (or whatever is asked for) are covered before a frame leaves the loop.

It happens between network and picture, so everything behind it, files, windows, pages,
snapshots, views that show the input, gets the covered frame; the uncovered one is not kept.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import U8, Frame, now_ns
from rtseg.realtime.redact_paint import STYLES, Mosaic, RedactStyle
from rtseg.realtime.redact_region import Regions
from rtseg.realtime.refine import Refiner, Seen
from rtseg.realtime.yuv import as_420, colour_tags, planes_420

LOOK_AHEAD = 8
"""Frames that a file is looked ahead, to cover people before their first detection."""

_HELD_BYTES = 96 << 20


@dataclass(frozen=True)
class RedactOptions:
    """What is covered, and how.

    Attributes:
        classes: ids of the classes to cover.
        style: ``pixelate``, ``blur`` or ``fill``.
        margin: growth of every region on each side, as a share of the frame's shorter side,
            0 to 0.25.
        hold_s: how long a region outlives its last detection, in seconds, 0 to 10.
        look_ahead: how many frames are held back to cover what appears later, where nobody
            waits for them; 0 for none.

    Raises:
        UsageError: unknown style, no classes, or a number outside its limits.
    """

    classes: tuple[int, ...]
    style: RedactStyle = "pixelate"
    margin: float = 0.04
    hold_s: float = 0.5
    look_ahead: int = LOOK_AHEAD

    def __post_init__(self) -> None:
        if not self.classes:
            raise UsageError("redaction needs classes. Received: none. Allowed: person,rider")
        if self.style not in STYLES:
            raise UsageError(
                f"unknown style {self.style!r} of redaction. Allowed: {', '.join(STYLES)}"
            )
        limits = (("margin", self.margin, 0.25), ("hold_s", self.hold_s, 10.0))
        for name, value, most in limits:
            if not 0 <= value <= most:  # False for NaN, too
                raise UsageError(f"{name} of redaction is 0 to {most:g}. Received: {value:g}")
        if self.look_ahead < 0:
            raise UsageError(f"look_ahead is 0 or more. Received: {self.look_ahead}")


class Redactor(Refiner):
    """Covers the regions of some classes in the frames of one stream.

    The frames that come out have pictures of their own (yuv420p), without a pixel of what is
    covered; those in which nothing is covered come out as they came in.

    Args:
        options: what is covered, and how.
    """

    def __init__(self, options: RedactOptions) -> None:
        self.options = options
        self._regions = Regions(options.classes, margin=options.margin, hold_s=options.hold_s)
        self._waiting: deque[tuple[Seen, U8]] = deque()
        self._mosaic: Mosaic | None = None
        self._may_wait = False

    def open(self, *, may_wait: bool) -> None:
        """Hear whether frames may be held back; see :meth:`Refiner.open`."""
        self._may_wait = may_wait

    def push(self, seen: Seen) -> Sequence[Seen]:
        """Take a frame; see :meth:`Refiner.push`."""
        start_ns = now_ns()
        video = seen.frame.video
        regions = self._regions.update(seen.raw, video.width, video.height, seen.frame.pts_s)
        before = self._regions.before()
        if before is not None:
            for place, (earlier, covered) in enumerate(self._waiting):
                if covered.shape == before.shape:
                    self._waiting[place] = earlier, np.maximum(covered, before)
        self._waiting.append((seen, regions))
        ready = []
        while len(self._waiting) > self._look_ahead(video.width * video.height):
            ready.append(self._covered(*self._waiting.popleft(), start_ns))
            start_ns = now_ns()
        return ready

    def flush(self) -> Sequence[Seen]:
        """Cover what was held back; see :meth:`Refiner.flush`."""
        ready = [self._covered(seen, regions, now_ns()) for seen, regions in self._waiting]
        self._waiting.clear()
        return ready

    def _look_ahead(self, pixels: int) -> int:
        if not self._may_wait:
            return 0
        return min(self.options.look_ahead, _HELD_BYTES // max(1, pixels * 3 // 2))

    def _covered(self, seen: Seen, regions: U8, start_ns: int) -> Seen:
        frame = self.cover(seen.frame, regions)
        spent_ms = seen.stages_ms.get("postprocess", 0.0) + (now_ns() - start_ns) / 1e6
        stages_ms = {**seen.stages_ms, "postprocess": spent_ms}
        return dataclasses.replace(seen, frame=frame, stages_ms=stages_ms)

    def cover(self, frame: Frame, regions: U8) -> Frame:
        """Return a frame with regions covered; itself where there are none.

        Args:
            frame: the frame; not written to.
            regions: what :class:`~rtseg.realtime.redact_region.Regions` says of the frame.
        """
        import av

        if not regions.any():
            return frame
        video = frame.video
        tags = colour_tags(video)
        size = (video.width, video.height)
        covered = av.VideoFrame(*size, "yuv420p")
        planes = planes_420(covered)
        for out, values in zip(planes, planes_420(as_420(video, tags, size)), strict=True):
            out[:] = values
        if self._mosaic is None or self._mosaic.size != size:
            self._mosaic = Mosaic(*size, self.options.style)
        self._mosaic.paint(planes, regions)
        tags.write_to(covered)
        covered.pts, covered.time_base = video.pts, frame.time_base
        if frame.lasts_s is not None:
            covered.duration = round(frame.lasts_s / frame.time_base)
        return dataclasses.replace(frame, video=covered)
