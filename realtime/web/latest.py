"""The newest frame: where the loop leaves it, and where those who watch pick it up."""

from __future__ import annotations

import asyncio
import threading

from rtseg.realtime.frame import Rendered


class LatestFrame:
    """Holds one frame. The loop puts it in and goes on; a slow reader misses frames.

    :meth:`put` may be called from any thread and never waits. The rest belongs to the event
    loop of the server.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._item: Rendered | None = None
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False

    @property
    def item(self) -> Rendered | None:
        """The newest frame, or None before the first."""
        with self._lock:
            return self._item

    def put(self, item: Rendered) -> None:
        """Replace the frame, and wake who waits for one (nobody: nothing is done)."""
        with self._lock:
            self._item = item
            self._number += 1
            loop = self._loop if self._waiters else None
        if loop is not None:
            self._call(loop)

    def close(self) -> None:
        """Wake everybody for the last time, and let the frame go."""
        with self._lock:
            self._closed = True
            self._item = None
            loop = self._loop
        if loop is not None:
            self._call(loop)

    async def after(self, number: int) -> tuple[int, Rendered] | None:
        """Return the newest frame and its number once that is above ``number``.

        Returns:
            None when no more frames come.
        """
        while True:
            with self._lock:
                if self._closed:
                    return None
                if self._item is not None and self._number > number:
                    return self._number, self._item
                self._loop = asyncio.get_running_loop()
                waiter = self._loop.create_future()
                self._waiters.append(waiter)
            try:
                await waiter
            finally:
                with self._lock:
                    if waiter in self._waiters:
                        self._waiters.remove(waiter)

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the server has ended
            return

    def _wake(self) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
