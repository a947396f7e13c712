"""When a frame is shown: a viewer's pause, and a file's own pace. For one stream."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtseg.realtime.controls import Controls

_POLL_S = 0.02


class Playback:
    """Holds frames back as a viewer wishes; its clock begins when it is made.

    Args:
        controls: the viewer's pause and steps, or None.
        stopping: ends every wait.
        live: whether the source goes on meanwhile.
    """

    def __init__(self, controls: Controls | None, stopping: threading.Event, *, live: bool) -> None:
        self._controls = controls
        self._stopping = stopping
        self._live = live
        self._start_s = time.monotonic()

    def refuse(self) -> str | None:
        """Return ``paused`` when a live source's frame is to be left out."""
        controls = self._controls
        if controls is None or not self._live or not controls.paused:
            return None
        return None if controls.take_step(self) else "paused"

    def wait_for(self, pts_s: float) -> None:
        """Wait until a file's frame is due, in real time, and while a viewer has paused it."""
        self._start_s += self._paused_s()
        early_s = self._start_s + pts_s - time.monotonic()
        if early_s > 0:
            self._stopping.wait(early_s)
        else:  # too slow for real time: play slower, do not race to catch up
            self._start_s -= early_s

    def _paused_s(self) -> float:
        """Wait while a viewer has paused; return for how many seconds."""
        controls = self._controls
        if controls is None:
            return 0.0
        begin_s = time.monotonic()
        while controls.paused and not controls.take_step(self) and not self._stopping.wait(_POLL_S):
            pass
        return time.monotonic() - begin_s
