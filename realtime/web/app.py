"""The live page as an ASGI application: the page, the video, numbers, wishes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from concurrent.futures import Executor
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import SinkError
from rtseg.realtime.web.commands import BadCommand, obey
from rtseg.realtime.web.latest import LatestFrame
from rtseg.realtime.web.mjpeg import JpegFeed, MjpegResponse
from rtseg.realtime.web.page import load_page
from rtseg.realtime.web.pictures import to_png
from rtseg.realtime.web.state import SAMPLE_S, RunState
from rtseg.realtime.web.watchers import MOST_PAGES, STUCK_S, Watchers
from rtseg.realtime.web.webrtc import MOST_SDP_BYTES, BadOffer, VideoFeed, has_webrtc

POLL_S = 0.1
"""How often a page is told of a view that something else (the window's keys) has changed."""

FAREWELL_S = 0.5
"""How long the end of the run waits for pages to hear of it."""

GONE = 1001
TRY_LATER = 1013
MOST_BAD = 20
"""After so many messages that mean nothing a page is cut off."""


class LivePage:
    """Everything that the live page serves.

    Args:
        latest: where frames come from.
        state: what is said of the run.
        controls: where wishes go.
        class_count: how many classes there are.
        stem: short name of the source, for the names of snapshots.
        executor: what encodes pictures.
    """

    def __init__(
        self,
        latest: LatestFrame,
        state: RunState,
        controls: Controls,
        *,
        class_count: int,
        stem: str,
        executor: Executor,
    ) -> None:
        self._latest = latest
        self._state = state
        self._controls = controls
        self._class_count = class_count
        self._stem = re.sub(r"[^A-Za-z0-9._-]+", "_", stem) or "rt-seg"
        self._executor = executor
        self.watchers = Watchers()
        self._pages = Watchers(MOST_PAGES)
        self._snapshots = asyncio.Semaphore(1)
        self._jpegs = JpegFeed(latest, self.watchers, executor)
        self._webrtc = VideoFeed(latest, self.watchers, executor) if has_webrtc() else None
        self._page = load_page()
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._sampler = asyncio.create_task(self._sample())
        self.app = Starlette(
            routes=[
                Route("/", self._index),
                Route("/stream.mjpg", self._stream, methods=["GET"]),
                Route("/snapshot.png", self._snapshot),
                Route("/state.json", self._state_json),
                Route("/webrtc", self._answer, methods=["POST"]),
                WebSocketRoute("/ws", self._socket),
            ]
        )

    async def close(self) -> None:
        """End every stream and page, in order."""
        self._closing.set()
        self._wake()
        deadline_s = time.monotonic() + FAREWELL_S
        while self._pages.count and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)  # pages keep the last picture if they hear of the end first
        self._latest.close()
        if self._webrtc is not None:
            await self._webrtc.close()
        self._sampler.cancel()
        await asyncio.gather(self._sampler, return_exceptions=True)

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            self._state.sample()
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _index(self, request: Request) -> Response:
        return Response(
            self._page.html,
            media_type="text/html",
            headers={"content-security-policy": self._page.policy},
        )

    async def _stream(self, request: Request) -> Response:
        if request.method != "GET":  # HEAD would hold a place and send nothing
            return Response(status_code=405, headers={"allow": "GET"})
        return MjpegResponse(self._jpegs, self.watchers)

    async def _answer(self, request: Request) -> Response:
        if self._webrtc is None:
            return Response("WebRTC is not installed here\n", 501)
        if self.watchers.full:
            return Response("too many watch already\n", 503, {"retry-after": "10"})
        offer = b""
        async for part in request.stream():
            offer += part
            if len(offer) > MOST_SDP_BYTES:
                return Response(f"an offer has at most {MOST_SDP_BYTES} bytes\n", 413)
        own, client = request.scope.get("server"), request.client
        if own is None or client is None:
            return Response("WebRTC needs addresses\n", 501)
        try:
            answer = await self._webrtc.answer(
                offer.decode("utf-8", "replace"), own[0], client.host
            )
        except BadOffer as error:
            return Response(f"{error}\n", 400)
        return Response(answer, media_type="application/sdp")

    async def _snapshot(self, request: Request) -> Response:
        item = self._latest.item
        if item is None or item.picture is None:
            return Response("no frame yet\n", 503, {"retry-after": "1"})
        async with self._snapshots:
            loop = asyncio.get_running_loop()
            try:
                png = await loop.run_in_executor(self._executor, to_png, item.picture)
            except SinkError as error:
                return Response(f"{error}\n", 500)
        name = f"{self._stem}_{item.frame.index:06d}.png"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(png, media_type="image/png", headers=headers)

    async def _state_json(self, request: Request) -> Response:
        history = list(self._state.history)
        return JSONResponse({"about": self._about(), "history": history, **self._now()})

    def _about(self) -> dict[str, Any]:
        return {**self._state.about(), "webrtc": self._webrtc is not None}

    def _now(self) -> dict[str, Any]:
        watchers, item = self.watchers, self._latest.item
        picture = item.picture if item is not None else None
        return {
            "picture": [picture.width, picture.height] if picture is not None else None,
            "sample": self._state.history[-1] if self._state.history else None,
            "numbers": self._state.numbers(),
            "shares": self._state.shares(item),
            "view": self._state.view(),
            "page": {
                "watchers": watchers.count,
                "pages": self._pages.count,
                "encoded": watchers.encoded,
                "sent": watchers.sent,
                "missed": watchers.missed,
            },
        }

    # -- the websocket ------------------------------------------------------------------

    async def _socket(self, socket: WebSocket) -> None:
        with self._pages.seat() as seated:
            await socket.accept()
            if not seated:
                await socket.close(TRY_LATER)
                return
            telling = asyncio.create_task(self._tell(socket))
            hearing = asyncio.create_task(self._hear(socket))
            try:
                await asyncio.wait((telling, hearing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (telling, hearing):
                    task.cancel()
                await asyncio.gather(telling, hearing, return_exceptions=True)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, asyncio.TimeoutError):
                await asyncio.wait_for(socket.close(GONE), 1)

    async def _tell(self, socket: WebSocket) -> None:
        history = list(self._state.history)
        await self._send(socket, {"about": self._about(), "history": history, **self._now()})
        told_view, told_s = self._state.view(), time.monotonic()
        while not self._closing.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), POLL_S)
            if self._closing.is_set():
                break
            view, now_s = self._state.view(), time.monotonic()
            if now_s - told_s >= SAMPLE_S * 0.9:
                await self._send(socket, self._now())
                told_s = now_s
            elif view != told_view:
                await self._send(socket, {"view": view})
            told_view = view
        await self._send(socket, {"ended": True})

    async def _hear(self, socket: WebSocket) -> None:
        bad = 0
        while bad < MOST_BAD:
            message = await socket.receive()
            if message["type"] != "websocket.receive":
                return
            try:
                obey(message.get("text") or "", self._controls, self._class_count)
            except BadCommand as error:
                bad += 1
                await self._send(socket, {"refused": str(error)})
            self._wake()

    @staticmethod
    async def _send(socket: WebSocket, content: dict[str, Any]) -> None:
        text = json.dumps(content, separators=(",", ":"))
        await asyncio.wait_for(socket.send_text(text), STUCK_S)
