"""How far the steps of a long command are, on standard error."""

from __future__ import annotations

import sys
import time

_INTERVAL_S = 0.2


class Progress:
    """A line on standard error where that is a terminal, else one line a step."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._shown_s = 0.0
        self._step = ""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show how far a step is."""
        now = time.monotonic()
        new = step != self._step
        if self._quiet or not (new or done == total or now - self._shown_s > _INTERVAL_S):
            return
        self._shown_s = now
        if self._terminal:
            end = "\n" if new and self._step else ""
            print(f"{end}\r\x1b[K{step} {done}/{total}", end="", file=sys.stderr, flush=True)
        elif new:
            print(f"{step} ({total})", file=sys.stderr, flush=True)
        self._step = step

    def done(self) -> None:
        """End the line."""
        if self._step and self._terminal and not self._quiet:
            print(file=sys.stderr)
