"""Timestamps from 0 that always rise, whatever the input's are like."""

from __future__ import annotations

from fractions import Fraction

DEFAULT_FPS = Fraction(25)

LEAP_S = 10
"""A longer way forward is a jump, where an input may jump."""


class Timeline:
    """Maps a stream's own timestamps to ticks from 0.

    Gaps stay (variable frame rate), missing timestamps are made up from the frame rate, and
    a jump backwards (a camera that starts over, a concatenated stream) goes on one frame
    later. So does one of more than :data:`LEAP_S` forward, where an input may jump. A single
    frame that is no later than the one before (rounded to the same
    millisecond, out of order) goes right behind it and moves nothing after it.

    Args:
        time_base: seconds of one tick.
        fps: the nominal frame rate, None where it is not known.
        jumps: whether the input's clock may be set forward (joined MPEG-TS, cameras).

    Attributes:
        time_base: seconds of one tick, the stream's own.
        step: ticks of one nominal frame, at least 1.
        shift: input timestamp minus output timestamp at present, in ticks; None until a
            frame was placed.
        leap: how many ticks a gap may have, None where it may have any.
        last: output timestamp of the newest frame, -1 before the first.
    """

    def __init__(self, time_base: Fraction, fps: Fraction | None, *, jumps: bool = False) -> None:
        self.time_base = time_base
        self._exact_step = 1 / ((fps or DEFAULT_FPS) * time_base)
        self.step = max(1, round(self._exact_step))
        self.leap = max(round(LEAP_S / time_base), 3 * self.step) if jumps else None
        self.shift: int | None = None
        self.last = -1
        self._begin = 0
        self._rising = False
        self._anchor: int | None = None
        self._made = 0

    def raw(self, pts: int | None) -> int:
        """Return the input timestamp of the next frame, made up where it has none."""
        if pts is None and self._anchor is not None:
            self._made += 1
            return self._anchor + round(self._made * self._exact_step)
        self._anchor = pts or 0
        self._made = 0
        return self._anchor

    def at(self, raw: int) -> int:
        """Return where a frame would come, without placing it."""
        if self.shift is None:
            return self._begin
        pts = raw - self.shift
        return self.last + self.step if self._leaps(pts) else pts

    def place(self, raw: int) -> int:
        """Return the output timestamp of a frame that is to be shown, in ticks."""
        if self.shift is None:
            self.shift = raw - self._begin
            leaps = False  # a lap begins where it was told
        else:
            leaps = self._leaps(raw - self.shift)
        pts = raw - self.shift
        if leaps:
            pts = self.last + self.step
            self.shift = raw - pts
        elif pts > self.last:
            self._rising = True
        elif self._rising and self.last - pts <= self.step:
            pts = self.last + 1
            self._rising = False
        else:
            pts = self.last + self.step
            self.shift = raw - pts
        self.last = pts
        return pts

    def _leaps(self, pts: int) -> bool:
        return self.leap is not None and pts - self.last > self.leap

    def reset(self) -> None:
        """Let the next frame be the first."""
        self.last = -1
        self.restart(at=0)

    def restart(self, at: int) -> None:
        """Let the next frame, whatever its own timestamp, come at ``at`` ticks."""
        self._begin = at
        self._anchor = None
        self.shift = None
