"""Live streams that come in bursts, at their own pace."""

from __future__ import annotations

LONGEST_S = 10.0
"""A frame that is due later than this has another clock: the stream has jumped."""


class Pace:
    """Says how long each frame of a bursty live stream is to wait until it is due.

    HLS brings seconds of pictures at once and then nothing for as long; who takes the newest
    at any moment would see one or two of each segment. Frames that come late move all after
    them: what a segment is late by is not caught up by racing through it.

    >>> pace = Pace()
    >>> [pace.wait_s(0.0, 50.0), pace.wait_s(0.5, 50.0), pace.wait_s(1.0, 53.0)]
    [0.0, 0.5, 0.0]
    """

    def __init__(self) -> None:
        self._begin_s: float | None = None

    def wait_s(self, pts_s: float, now_s: float) -> float:
        """Return how long to wait, in seconds.

        Args:
            pts_s: the frame's time.
            now_s: a clock that only rises.
        """
        early_s = 0.0 if self._begin_s is None else self._begin_s + pts_s - now_s
        if self._begin_s is None or not 0 <= early_s <= LONGEST_S:
            self._begin_s = now_s - pts_s
            return 0.0
        return early_s
