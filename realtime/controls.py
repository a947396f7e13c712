"""What a viewer asks for while the loop runs: pause, quit, another view."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

from rtseg.realtime.view import VIEWS, View, ViewOptions

ALPHA_STEP = 0.1

KEYS: dict[str, str] = {
    "q": "quit",
    "esc": "quit",
    "space": "pause or go on",
    "tab": "next view",
    "h": "HUD",
    "l": "legend",
    "+": "more colour",
    "-": "less colour",
    "s": "snapshot",
    ".": "one frame while paused",
}
"""The keys of a window or live page, by the names :meth:`Controls.press` takes."""


class Controls:
    """The wishes of a viewer; any thread may make them and any thread may read them.

    Args:
        options: the view to start with.
        views: the views that ``tab`` steps through. Leave out ``side-by-side`` where a file
            is written, too: its pictures cannot change their size.
    """

    def __init__(self, options: ViewOptions | None = None, views: Sequence[View] = VIEWS) -> None:
        self._lock = threading.Lock()
        self._options = options if options is not None else ViewOptions()
        self._views = tuple(views)
        self._paused = False
        self._quit = False
        self._steps = 0
        self._taken: dict[object, int] = {}
        self._snapshots = 0

    @property
    def options(self) -> ViewOptions:
        """The view as it is now."""
        with self._lock:
            return self._options

    @property
    def views(self) -> tuple[View, ...]:
        """The views that may be switched to."""
        return self._views

    def change(self, make: Callable[[ViewOptions], ViewOptions]) -> None:
        """Replace the view by what ``make`` returns for the one of now, in one go."""
        with self._lock:
            self._options = make(self._options)

    def set_paused(self, paused: bool) -> None:
        """Let the loop stand still or go on."""
        if paused != self.paused:
            self.press("space")

    @property
    def paused(self) -> bool:
        """Whether the loop is to stand still."""
        with self._lock:
            return self._paused

    @property
    def quit(self) -> bool:
        """Whether the loop is to end in order."""
        with self._lock:
            return self._quit

    def request_quit(self) -> None:
        """Ask the loop to end in order, as closing the window does."""
        with self._lock:
            self._quit = True

    def take_step(self, reader: object = None) -> bool:
        """Return whether one more frame is wanted while paused, and forget that one.

        Args:
            reader: who asks; each of several streams sees every step once.
        """
        with self._lock:
            taken = self._taken.get(reader, 0)
            wanted = taken < self._steps
            self._taken[reader] = taken + wanted
            return wanted

    def take_snapshot(self) -> bool:
        """Return whether a snapshot is wanted, and forget that one."""
        with self._lock:
            wanted = self._snapshots > 0
            self._snapshots -= wanted
            return wanted

    def press(self, key: str) -> bool:
        """Do what a key of :data:`KEYS` means; return False for any other key."""
        with self._lock:
            if key in ("q", "esc"):
                self._quit = True
            elif key == "space":
                self._paused = not self._paused
                self._steps = 0
                self._taken.clear()
            elif key == ".":
                self._steps += self._paused
            elif key == "s":
                self._snapshots += 1
            else:
                changed = self._changed_view(key)
                if changed is None:
                    return False
                self._options = changed
            return True

    def _changed_view(self, key: str) -> ViewOptions | None:
        now = self._options
        if key == "tab":
            if not self._views:
                return now
            place = self._views.index(now.view) if now.view in self._views else -1
            return dataclasses.replace(now, view=self._views[(place + 1) % len(self._views)])
        if key == "h":
            return dataclasses.replace(now, hud=not now.hud)
        if key == "l":
            return dataclasses.replace(now, legend=not now.legend)
        if key in ("+", "-"):
            step = ALPHA_STEP if key == "+" else -ALPHA_STEP
            return dataclasses.replace(now, alpha=min(1.0, max(0.0, round(now.alpha + step, 3))))
        return None
