"""Motion JPEG over HTTP: encoded once for all who watch, newest frame first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import Executor

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rtseg.realtime.web.latest import LatestFrame
from rtseg.realtime.web.pictures import to_jpeg
from rtseg.realtime.web.watchers import LEAST_INTERVAL_S, STUCK_S, Watchers

BOUNDARY = b"rtseg-frame"


class JpegFeed:
    """The newest frame as JPEG, made only while somebody waits for it.

    However many watch, each frame is encoded at most once, by ``executor``; a watcher who is
    slow gets the newest when it is ready for one, and misses those between.

    Args:
        latest: where frames come from.
        watchers: counts who watches and what they miss.
        executor: what encodes, so that the event loop stays free.
    """

    def __init__(self, latest: LatestFrame, watchers: Watchers, executor: Executor) -> None:
        self._latest = latest
        self._watchers = watchers
        self._executor = executor
        self._lock = asyncio.Lock()
        self._frame: tuple[int, bytes] | None = None
        self._encoded_s = 0.0

    async def after(self, number: int) -> tuple[int, bytes] | None:
        """Return number and JPEG of the newest frame above ``number``; None at the end."""
        found = await self._latest.after(number)
        if found is None:
            return None
        async with self._lock:
            if self._frame is not None and self._frame[0] > number:
                return self._frame  # made for another watcher meanwhile
            await asyncio.sleep(self._encoded_s + LEAST_INTERVAL_S - time.monotonic())
            found = await self._latest.after(number)
            if found is None or found[1].picture is None:
                return None
            self._encoded_s = time.monotonic()
            loop = asyncio.get_running_loop()
            jpeg = await loop.run_in_executor(self._executor, to_jpeg, found[1].picture)
            self._watchers.encoded += 1
            self._frame = (found[0], jpeg)
            return self._frame

    def forget(self) -> None:
        """Let the last picture go once nobody watches."""
        self._frame = None


class MjpegResponse(Response):
    """``multipart/x-mixed-replace``: each part a JPEG that replaces the one before."""

    def __init__(self, feed: JpegFeed, watchers: Watchers) -> None:
        super().__init__()
        self._feed = feed
        self._watchers = watchers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames until the watcher leaves, is stuck, or the run ends."""
        with self._watchers.seat() as seated:
            if not seated:
                refusal = Response("too many watch already\n", 503, {"retry-after": "10"})
                await refusal(scope, receive, send)
                return
            sending = asyncio.create_task(self._send_frames(send))
            leaving = asyncio.create_task(_wait_for_leave(receive))
            try:
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, leaving):
                    task.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)
                if not self._watchers.count:
                    self._feed.forget()

    async def _send_frames(self, send: Send) -> None:
        kind = b"multipart/x-mixed-replace; boundary=" + BOUNDARY
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        number, begun = 0, False
        while (frame := await self._feed.after(number)) is not None:
            if begun:
                self._watchers.missed += max(0, frame[0] - number - 1)
            number, jpeg = frame
            head = b"" if begun else b"--" + BOUNDARY + b"\r\n"
            head += b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            # The next boundary comes at once: browsers show a part when they have seen its end.
            body = head + jpeg + b"\r\n--" + BOUNDARY + b"\r\n"
            begun = True
            message = {"type": "http.response.body", "body": body, "more_body": True}
            await asyncio.wait_for(send(message), STUCK_S)
            self._watchers.sent += 1
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b""})


async def _wait_for_leave(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
