"""Which frames go into the loop: stride and rate limit. Pure decisions."""

from __future__ import annotations

from dataclasses import dataclass

from rtseg.realtime.errors import UsageError
from rtseg.realtime.slot import DropPolicy


@dataclass(frozen=True)
class FlowOptions:
    """How frames flow through the loop.

    Attributes:
        drop_policy: ``latest`` (the newest frame wins), ``block`` (no frame is lost) or
            None: ``latest`` for a live source, ``block`` for a file.
        buffer: how many decoded frames may wait for the engine; 0 chooses one for
            ``latest`` and four for ``block``.
        max_fps: frames above this rate (in source time) are left out; None takes all.
        stride: take each n-th frame.
        max_frames: end after that many frames; None takes all.
        warmup: network runs before the first frame, left out of the statistics.
    """

    drop_policy: DropPolicy | None = None
    buffer: int = 0
    max_fps: float | None = None
    stride: int = 1
    max_frames: int | None = None
    warmup: int = 2

    def __post_init__(self) -> None:
        if self.drop_policy not in (None, "latest", "block"):
            raise UsageError(f"the drop policy is latest or block. Received: {self.drop_policy!r}")
        for name, value, least in (
            ("buffer", self.buffer, 0),
            ("stride", self.stride, 1),
            ("max-frames", self.max_frames, 1),
            ("warmup", self.warmup, 0),
        ):
            if value is not None and value < least:
                raise UsageError(f"--{name} is a whole number from {least} on. Received: {value}")
        if self.max_fps is not None and not 0 < self.max_fps < float("inf"):
            raise UsageError(f"--max-fps is a number above 0. Received: {self.max_fps}")

    def policy(self, live: bool) -> DropPolicy:
        """Return the drop policy for a source that is live or not."""
        return self.drop_policy or ("latest" if live else "block")

    def capacity(self, live: bool) -> int:
        """Return how many decoded frames may wait."""
        return self.buffer or (1 if self.policy(live) == "latest" else 4)


class Throttle:
    """Decides frame by frame whether it goes into the loop.

    Args:
        stride: take each n-th frame.
        max_fps: upper bound of the rate in source time, or None.
    """

    def __init__(self, stride: int = 1, max_fps: float | None = None) -> None:
        self._stride = stride
        self._interval_s = 1.0 / max_fps if max_fps else 0.0
        self._seen = 0
        self._due_s: float | None = None

    def refuse(self, time_s: float) -> str | None:
        """Return why the frame at ``time_s`` is left out, or None when it is taken.

        The due time moves on a fixed grid, so that 30 frames/s limited to 20 gives 20 and
        not 15; half a millisecond of slack absorbs rounding in timestamps.
        """
        self._seen += 1
        if (self._seen - 1) % self._stride:
            return "stride"
        if not self._interval_s:
            return None
        if self._due_s is None:
            self._due_s = time_s
        if time_s < self._due_s - 5e-4:
            return "max_fps"
        self._due_s += self._interval_s
        if self._due_s <= time_s:
            self._due_s = time_s + self._interval_s
        return None
