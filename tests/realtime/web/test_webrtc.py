"""WebRTC with a real peer on this machine."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.frame import Frame, Rendered
from rtseg.realtime.web.h264 import H264Encoder
from rtseg.realtime.web.webrtc import MOST_SDP_BYTES, plain_address, with_address
from tests.media import luma_plane, picture
from tests.realtime.sinks.parts import TIME_BASE
from tests.realtime.web.parts import SIZE, Fed, page

aiortc = pytest.importorskip("aiortc", reason="aiortc (WebRTC) needs Python 3.11")

WAIT_S = 60.0


@pytest.fixture(scope="module")
def fed() -> Iterator[Fed]:
    with page() as made:
        yield made


class Visitor:
    """What a browser does: offers, connects, takes frames."""

    def __init__(self, fed: Fed) -> None:
        from rtseg.realtime.web import webrtc

        webrtc._bind_to_one_address()
        webrtc._own_address.set("127.0.0.1")  # machines of CI may have no other address
        self._fed = fed
        configuration = aiortc.RTCConfiguration(iceServers=[])
        self.peer = aiortc.RTCPeerConnection(configuration)
        self._video = self.peer.addTransceiver("video", direction="recvonly")
        self.answer = ""

    async def connect(self) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        async with httpx.AsyncClient(timeout=WAIT_S) as client:
            answer = await client.post(
                self._fed.url + "/webrtc", content=self.peer.localDescription.sdp
            )
        assert answer.status_code == 200, answer.text
        self.answer = answer.text
        await self.peer.setRemoteDescription(aiortc.RTCSessionDescription(answer.text, "answer"))

    async def frame(self) -> Any:
        return await asyncio.wait_for(self._video.receiver.track.recv(), WAIT_S)

    async def page(self) -> dict[str, Any]:
        async with httpx.AsyncClient(timeout=WAIT_S) as client:
            found: dict[str, Any] = (await client.get(self._fed.url + "/state.json")).json()["page"]
        return found

    async def watchers_are(self, count: int) -> None:
        async def waiting() -> None:
            while (await self.page())["watchers"] != count:
                await asyncio.sleep(0.05)

        await asyncio.wait_for(waiting(), WAIT_S)


def test_frames_arrive_in_their_size_and_colours(fed: Fed) -> None:
    async def run() -> None:
        visitor = Visitor(fed)
        await visitor.connect()
        seen = [await visitor.frame() for _ in range(4)]
        await visitor.watchers_are(1)
        await visitor.peer.close()
        await visitor.watchers_are(0)
        assert {(frame.width, frame.height) for frame in seen} == {SIZE}
        assert len({luma_plane(frame)[120:150, 200:260].tobytes() for frame in seen}) > 1
        red, green, blue = seen[-1].to_ndarray(format="rgb24")[150, 240].astype(int)
        assert blue > green > red  # sky

    asyncio.run(run())


def test_only_the_address_that_was_reached_is_offered(fed: Fed) -> None:
    async def run() -> None:
        visitor = Visitor(fed)
        await visitor.connect()
        await visitor.peer.close()
        found = re.findall(r"a=candidate:\S+ \d+ (\S+) \d+ (\S+)", visitor.answer)
        assert found == [("udp", "127.0.0.1")]

    asyncio.run(run())


def test_two_visitors_cost_one_encoding(fed: Fed) -> None:
    async def run() -> None:
        visitors = [Visitor(fed), Visitor(fed)]
        for visitor in visitors:
            await visitor.connect()
            await visitor.frame()
        await visitors[0].watchers_are(2)
        before = await visitors[0].page()
        for _ in range(15):
            await asyncio.gather(*(visitor.frame() for visitor in visitors))
        after = await visitors[0].page()
        assert after["sent"] - before["sent"] >= 1.5 * (after["encoded"] - before["encoded"])
        for visitor in visitors:
            await visitor.peer.close()
        await visitors[0].watchers_are(0)

    asyncio.run(run())


def test_who_comes_while_nothing_moves_sees_the_last_frame(fed: Fed) -> None:
    async def run() -> None:
        visitor = Visitor(fed)
        await visitor.connect()
        frame = await visitor.frame()
        assert (frame.width, frame.height) == SIZE
        await visitor.peer.close()
        await visitor.watchers_are(0)

    while fed.written < 2:
        time.sleep(0.01)
    fed.controls.set_paused(True)
    try:
        asyncio.run(run())
    finally:
        fed.controls.set_paused(False)


def test_the_end_of_the_run_ends_the_video() -> None:
    async def run() -> None:
        with page() as made:
            visitor = Visitor(made)
            await visitor.connect()
            await visitor.frame()
            await asyncio.to_thread(made.stop.set)
            await asyncio.to_thread(made.sink.close)

        async def ended() -> None:
            while visitor.peer.connectionState != "closed":
                await asyncio.sleep(0.05)

        await asyncio.wait_for(ended(), WAIT_S)

    asyncio.run(run())


@pytest.mark.parametrize(
    "offer",
    [
        "", "x", "v=0", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "\x00" * 100,
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n",
    ],
)  # fmt: skip
def test_what_is_no_offer_is_refused(fed: Fed, offer: str) -> None:
    answer = httpx.post(fed.url + "/webrtc", content=offer, timeout=WAIT_S)
    assert answer.status_code == 400
    assert "\n" not in answer.text.strip()


def test_a_browser_without_h264_is_told_so(fed: Fed) -> None:
    async def offered() -> str:
        peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        video = peer.addTransceiver("video", direction="recvonly")
        codecs = aiortc.RTCRtpReceiver.getCapabilities("video").codecs
        video.setCodecPreferences([codec for codec in codecs if codec.mimeType == "video/VP8"])
        await peer.setLocalDescription(await peer.createOffer())
        sdp = str(peer.localDescription.sdp)
        await peer.close()
        return sdp

    answer = httpx.post(fed.url + "/webrtc", content=asyncio.run(offered()), timeout=WAIT_S)
    assert answer.status_code == 400


def test_an_offer_that_is_too_long(fed: Fed) -> None:
    answer = httpx.post(fed.url + "/webrtc", content="v" * (MOST_SDP_BYTES + 1), timeout=WAIT_S)
    assert answer.status_code == 413


def test_offers_of_other_sites_are_refused(fed: Fed) -> None:
    headers = {"origin": "http://evil.example"}
    answer = httpx.post(fed.url + "/webrtc", content="v=0", headers=headers, timeout=WAIT_S)
    assert answer.status_code == 403


@given(st.tuples(*[st.integers(0, 255)] * 4).map(lambda parts: ".".join(map(str, parts))))
def test_hidden_names_become_the_visitor_s_address(client: str) -> None:
    line = "a=candidate:842 1 udp 2113 3bf0e4c1-8c5e.local 43210 typ host generation 0"
    shown = with_address(f"v=0\r\n{line}\r\na=end\r\n", client)
    assert f"a=candidate:842 1 udp 2113 {client} 43210 typ host generation 0\r\n" in shown
    plain = "a=candidate:842 1 udp 2113 10.0.0.7 43210 typ host\r\n"
    assert with_address(plain, client) == plain
    assert plain_address(f"::ffff:{client}") == client


def test_the_encoder_gives_a_packet_for_each_picture_and_follows_its_size() -> None:
    encoder = H264Encoder()
    for index, size in enumerate([(320, 192)] * 3 + [(640, 192)] * 3 + [(4096, 128)]):
        image = picture(index, size)
        item = Rendered(Frame(index, image, index, TIME_BASE), np.zeros((2, 2), np.uint8), image)
        before = (image.pts, image.time_base, int(image.pict_type))
        packets = encoder.encode(item, keyframe=index == 2)
        assert len(packets) == 1
        assert packets[0].is_keyframe == (index in (0, 2, 3, 6))
        assert (image.pts, image.time_base, int(image.pict_type)) == before


@pytest.mark.parametrize(
    ("first", "has"), [("tensorflow", False), ("pylibsrtp, tensorflow", True), ("aiortc", True)]
)
def test_tensorflow_before_webrtc_does_not_crash(first: str, has: bool) -> None:
    """pylibsrtp's import crashes a process that has TensorFlow; it is left out there."""
    if "tensorflow" in first:
        pytest.importorskip("tensorflow", reason="needs the extra 'train'")
    code = (
        f"import {first}; from rtseg.realtime.web.webrtc import has_webrtc; "
        "found = has_webrtc(); print('has', found)\nif found: import aiortc"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["has", str(has)]
