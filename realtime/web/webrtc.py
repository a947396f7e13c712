"""WebRTC: the video with the least delay, where the browser and this machine reach each other."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import time
from collections import deque
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import SinkError
from rtseg.realtime.web.h264 import H264Encoder
from rtseg.realtime.web.latest import LatestFrame
from rtseg.realtime.web.watchers import LEAST_INTERVAL_S, Watchers

if TYPE_CHECKING:
    import av
    from aiortc import RTCPeerConnection

_log = logging.getLogger(__name__)

MOST_SDP_BYTES = 64 * 1024
CONNECT_S = 10.0
"""A visitor that offers and does not connect within that time is forgotten."""

REPEAT_S = 1.0
"""How often the last frame is sent again while nothing moves."""

WAKE_S = 0.25

MOST_WAITING = 8
"""Packets that may wait for one visitor; then it starts anew at a keyframe."""

_own_address: ContextVar[str | None] = ContextVar("rtseg_webrtc_address", default=None)


class BadOffer(ValueError):
    """An offer that cannot be answered; the text says why."""


def has_webrtc() -> bool:
    """Return whether aiortc is installed (it needs Python 3.11) and can be imported.

    Where TensorFlow was imported first, aiortc's pylibsrtp crashes the process at its own
    import; the page then has motion JPEG alone.
    """
    import importlib.util
    import sys

    if importlib.util.find_spec("aiortc") is None:
        return False
    if "tensorflow" in sys.modules and "pylibsrtp" not in sys.modules:
        _log.info("WebRTC is off: TensorFlow was imported before it; the page has motion JPEG")
        return False
    return True


class VideoFeed:
    """The newest frame as H.264, encoded once for all visitors, only while there are any.

    Args:
        latest: where frames come from.
        watchers: counts who watches and what they miss.
        executor: what encodes, so that the event loop stays free.
    """

    def __init__(self, latest: LatestFrame, watchers: Watchers, executor: Executor) -> None:
        self._latest = latest
        self._watchers = watchers
        self._executor = executor
        self._lines: set[Line] = set()
        self._peers: set[RTCPeerConnection] = set()
        self._encoding: asyncio.Task[None] | None = None
        self._closers: set[asyncio.Task[None]] = set()

    async def answer(self, offer: str, own: str, client: str) -> str:
        """Return the answer (SDP) to a browser's offer; the video starts once it connects.

        Args:
            offer: the offer, SDP.
            own: the address of this machine that the visitor reached.
            client: the visitor's address.

        Raises:
            BadOffer: it is no offer, or takes no H.264.
        """
        from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
        from aiortc.rtcrtpsender import RTCRtpSender

        _bind_to_one_address()
        _own_address.set(plain_address(own))
        # No STUN server: nobody outside is told that a page is open.
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._peers.add(peer)
        try:
            line = Line(self)
            sender = peer.addTransceiver(line.track, direction="sendonly")
            codecs = RTCRtpSender.getCapabilities("video").codecs
            sender.setCodecPreferences([c for c in codecs if c.mimeType == "video/H264"])
            described = RTCSessionDescription(with_address(offer, plain_address(client)), "offer")
            await peer.setRemoteDescription(described)
            if len(peer.getTransceivers()) != 1 or sender.mid is None:
                raise BadOffer("an offer of one video is expected")
            answer = await peer.createAnswer()
            await peer.setLocalDescription(answer)
            if "H264" not in peer.localDescription.sdp:
                raise BadOffer("the browser takes no H.264")
        except BadOffer:
            await self._drop(peer)
            raise
        except Exception as error:  # aiortc raises whatever comes for an offer that is not one
            await self._drop(peer)
            _log.debug("live page: offer: %s", error, exc_info=True)
            raise BadOffer("the offer cannot be answered") from error
        self._keep(self._attend(peer, line))
        return str(peer.localDescription.sdp)

    async def close(self) -> None:
        """End every connection."""
        if self._encoding is not None:
            self._encoding.cancel()
        for task in list(self._closers):
            task.cancel()
        await asyncio.gather(*(self._drop(peer) for peer in list(self._peers)))
        await asyncio.gather(*self._closers, return_exceptions=True)

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._closers.add(task)
        task.add_done_callback(self._closers.discard)

    async def _attend(self, peer: RTCPeerConnection, line: Line) -> None:
        """Let one visitor watch until the connection is over."""
        changed = asyncio.Event()
        peer.on("connectionstatechange", changed.set)
        deadline_s = time.monotonic() + CONNECT_S
        try:
            with self._watchers.seat() as seated:
                while seated and peer.connectionState not in ("failed", "closed"):
                    if peer.connectionState == "connected" and line not in self._lines:
                        self._add(line)
                    if peer.connectionState != "connected" and time.monotonic() > deadline_s:
                        break
                    changed.clear()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(changed.wait(), 1.0)
        finally:
            self._lines.discard(line)
            await self._drop(peer)

    def _add(self, line: Line) -> None:
        self._lines.add(line)
        if self._encoding is None or self._encoding.done():
            self._encoding = asyncio.create_task(self._encode())

    async def _drop(self, peer: RTCPeerConnection) -> None:
        self._peers.discard(peer)
        await peer.close()

    async def _encode(self) -> None:
        """Encode for as long as somebody watches."""
        loop, encoder, number = asyncio.get_running_loop(), H264Encoder(), 0
        while self._lines:
            begun_s = time.monotonic()
            found = await self._fresh(number)
            if found is None:
                return
            number, item = found
            if item.picture is None:
                continue
            keyframe = any(line.needs_keyframe for line in self._lines)

            def work(item: Any = item, keyframe: bool = keyframe) -> list[av.Packet[Any]]:
                return encoder.encode(item, keyframe=keyframe)

            try:
                packets = await loop.run_in_executor(self._executor, work)
            except SinkError as error:
                _log.warning("live page: %s", error)
                return
            self._watchers.encoded += 1
            for line in tuple(self._lines):
                line.put(packets)
            await asyncio.sleep(begun_s + LEAST_INTERVAL_S - time.monotonic())

    async def _fresh(self, number: int) -> tuple[int, Any] | None:
        """Return the next frame; while nothing moves the last one now and then.

        So who comes later sees it, too, and what was lost on the way comes again.
        """
        waited_s = 0.0
        while self._lines:
            if any(line.needs_keyframe for line in self._lines) or waited_s >= REPEAT_S:
                number = 0
            try:
                return await asyncio.wait_for(self._latest.after(number), WAKE_S)
            except asyncio.TimeoutError:
                waited_s += WAKE_S
        return None


class Line:
    """The packets on their way to one visitor."""

    def __init__(self, feed: VideoFeed) -> None:
        from aiortc import MediaStreamTrack

        line = self

        class Track(MediaStreamTrack):
            """What aiortc asks for the next packet."""

            kind = "video"

            async def recv(self) -> av.Packet[Any]:
                return await line.get()

        self._watchers = feed._watchers
        self._waiting: deque[av.Packet[Any]] = deque()
        self._filled = asyncio.Event()
        self.track = Track()
        self.needs_keyframe = True

    def put(self, packets: list[av.Packet[Any]]) -> None:
        """Hand one frame's packets over."""
        if len(self._waiting) >= MOST_WAITING:
            self._watchers.missed += len(self._waiting)
            self._waiting.clear()
            self.needs_keyframe = True
        for packet in packets:
            if self.needs_keyframe and not packet.is_keyframe:
                continue
            self.needs_keyframe = False
            self._waiting.append(packet)
            self._watchers.sent += 1
        self._filled.set()

    async def get(self) -> av.Packet[Any]:
        """Return the next packet."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return self._waiting.popleft()


def plain_address(text: str) -> str:
    """Return an address without zone, and IPv4 in IPv6 as IPv4.

    >>> plain_address("::ffff:192.168.1.7"), plain_address("fe80::1%eth0")
    ('192.168.1.7', 'fe80::1')
    """
    number = ipaddress.ip_address(text.split("%")[0])
    mapped = getattr(number, "ipv4_mapped", None)
    return str(mapped if mapped is not None else number)


def with_address(sdp: str, client: str) -> str:
    """Put the visitor's address where its browser hides it behind a made-up ``.local`` name.

    >>> with_address("a=candidate:1 1 udp 2 ab-cd.local 5000 typ host", "192.168.1.9")
    'a=candidate:1 1 udp 2 192.168.1.9 5000 typ host'
    """
    return re.sub(r"(?m)^(a=candidate:\S+ \d+ \S+ \d+ )[\w-]+\.local ", rf"\g<1>{client} ", sdp)


def _bind_to_one_address() -> None:
    """Let ICE listen on the address that the visitor reached, and on no other.

    aioice would offer every address of this machine but 127.0.0.1: the page is bound to one
    address, and its video is not to be reached by another.
    """
    import aioice.ice

    if getattr(aioice.ice.get_host_addresses, "of_rtseg", False):
        return
    before = aioice.ice.get_host_addresses

    def chosen(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        own = _own_address.get()
        return [own] if own is not None else before(use_ipv4=use_ipv4, use_ipv6=use_ipv6)

    chosen.of_rtseg = True  # type: ignore[attr-defined]
    aioice.ice.get_host_addresses = chosen
