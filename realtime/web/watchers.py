"""Who watches the video, how many may, and what they got."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

MOST_WATCHERS = 16
"""Videos at a time; more are told to come again."""

MOST_PAGES = 32
"""Open pages (websockets) at a time."""

LEAST_INTERVAL_S = 1 / 35
"""Between two encoded frames: a camera of 120 frames/s need not cost four times as much."""

STUCK_S = 15.0
"""How long one frame or message may take to leave until its reader counts as gone."""


class Watchers:
    """Counts those who watch; belongs to the server's event loop.

    Attributes:
        count: how many watch now.
        encoded: frames encoded so far (each once, for all).
        sent: frames sent so far, over all watchers.
        missed: frames that watchers were too slow for, over all of them.
    """

    def __init__(self, most: int = MOST_WATCHERS) -> None:
        self._most = most
        self.count = 0
        self.encoded = 0
        self.sent = 0
        self.missed = 0

    @property
    def full(self) -> bool:
        """Whether no place is left."""
        return self.count >= self._most

    @contextlib.contextmanager
    def seat(self) -> Iterator[bool]:
        """Take a place while the ``with`` block runs; False where none is left."""
        if self.full:
            yield False
            return
        self.count += 1
        try:
            yield True
        finally:
            self.count -= 1
