"""What the live page costs: CPU milliseconds a frame with none, one and four who watch.

    python benchmarks/web.py [--size 1280x720] [--fps 25] [--seconds 8]

Serves pictures of a clip (or of the test picture) to visitors in processes of their own, so
that only the page's own work is counted: no engine runs. The first line is what feeding costs
without a page; the others include it. On a busy machine fewer frames are encoded than fed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from common import clip_or_generated, machine

from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.spec import EngineSpec
from rtseg.realtime.frame import Frame, Rendered, SourceInfo
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.sinks.null import NullSink
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.sinks.web import WebSink
from rtseg.realtime.web.address import WebAddress

KINDS = ("nobody", "page only", "mjpeg", "webrtc")


def main() -> None:
    """Measure, or be a visitor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clip", help="a video file")
    parser.add_argument("--size", default="1280x720", help="of the picture")
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--visit", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.visit:
        asyncio.run(visit(options.visit, options.url, options.count))
        return
    width, height = (int(part) for part in options.size.split("x"))
    print(f"{machine()}\n{options.size} at {options.fps:g} frames/s, {options.seconds:g} s each")
    with clip_or_generated(options.clip) as clip:
        items = rendered(str(clip), (width, height))
    source = SourceInfo("benchmark", "benchmark", width, height, Fraction(options.fps), live=True)
    context = SinkContext(source, EngineSpec("none", 512, 512, CITYSCAPES), width, height)
    print(f"{'watching':<14} CPU-ms/frame  in write() us, p50  fed/s  encoded/s  sent/s each")
    for kind, count in (
        ("no page", 0), ("nobody", 0), ("page only", 1), ("mjpeg", 1), ("mjpeg", 4),
        ("webrtc", 1), ("webrtc", 4),
    ):  # fmt: skip
        sink: Sink = NullSink() if kind == "no page" else WebSink(WebAddress("127.0.0.1", 0))
        with sink:
            sink.open(context)
            print(measure(sink, kind, count, items, options), flush=True)


def rendered(clip: str, size: tuple[int, int]) -> list[Rendered]:
    """Return 50 pictures of a clip, coloured."""
    renderer, random = Renderer(CITYSCAPES), np.random.default_rng(0)
    labels = random.integers(0, 19, (32, 32), np.uint8).repeat(16, 0).repeat(16, 1)
    items = []
    with av.open(clip) as file:
        for index, video in enumerate(itertools.islice(file.decode(video=0), 50)):
            scaled = video.reformat(width=size[0], height=size[1], format="yuv420p")
            frame = Frame(index, scaled, index, Fraction(1, 25))
            items.append(Rendered(frame, labels, renderer.render(frame, labels)))
    return items


def measure(
    sink: Sink, kind: str, count: int, items: list[Rendered], options: argparse.Namespace
) -> str:
    """Feed a sink in real time while ``count`` visitors watch; return one line."""
    visitors: subprocess.Popen[bytes] | None = None
    feed = itertools.cycle(items)
    if count and isinstance(sink, WebSink):
        sink.write(next(feed))
        asked = ("--visit", kind, "--url", sink.address.url, "--count", str(count))
        visitors = subprocess.Popen([sys.executable, __file__, *asked])
    try:
        watched = count if kind in ("mjpeg", "webrtc") else 0
        write(sink, feed, options.fps, until=lambda: ready(sink, watched, kind))
        before, said, begun_s = time.process_time(), state(sink), time.monotonic()
        end_s = begun_s + options.seconds
        spent_us = write(sink, feed, options.fps, until=lambda: time.monotonic() > end_s)
        cpu_ms = (time.process_time() - before) * 1e3 / len(spent_us)
        now, elapsed_s = state(sink), time.monotonic() - begun_s
    finally:
        if visitors is not None:
            visitors.kill()
            visitors.wait()
    name = kind if not watched else f"{count} x {kind}"
    middle_us = sorted(spent_us)[len(spent_us) // 2]
    encoded, sent = ((now.get(k, 0) - said.get(k, 0)) / elapsed_s for k in ("encoded", "sent"))
    return (
        f"{name:<14} {cpu_ms:12.2f}  {middle_us:18.0f}  {len(spent_us) / elapsed_s:5.1f}"
        f"  {encoded:9.1f}  {sent / max(1, watched):11.1f}"
    )


def write(sink: Sink, feed: object, fps: float, until: Callable[[], bool]) -> list[float]:
    """Write frames at a rate until something holds; return the microseconds inside ``write``."""
    spent_us = []
    due_s = time.monotonic()
    checked = 0
    while checked % 5 or not until():
        checked += 1
        due_s = max(due_s + 1 / fps, time.monotonic() - 1 / fps)
        time.sleep(max(0.0, due_s - time.monotonic()))
        begun_ns = time.perf_counter_ns()
        sink.write(next(feed))  # type: ignore[call-overload]
        spent_us.append((time.perf_counter_ns() - begun_ns) / 1e3)
    return spent_us


def ready(sink: Sink, watched: int, kind: str) -> bool:
    """Return whether all visitors are there and have got a picture."""
    said = state(sink)
    if not said:
        return True
    pages = said["pages"] >= 1 if kind == "page only" else True
    return bool(pages and said["watchers"] >= watched and said["sent"] >= 10 * watched)


def state(sink: Sink) -> dict[str, int]:
    """Return what the page says of those who watch."""
    if not isinstance(sink, WebSink):
        return {}
    with urllib.request.urlopen(sink.address.url + "state.json", timeout=60) as answer:
        page: dict[str, int] = json.load(answer)["page"]
    return page


async def visit(kind: str, url: str, count: int) -> None:
    """Watch as so many visitors until killed; each has the page's websocket open, too."""
    import httpx
    from websockets.asyncio.client import connect

    async def numbers() -> None:
        async with connect(url.replace("http", "ws", 1) + "ws") as wire:
            async for _ in wire:
                pass

    async def motion_jpeg() -> None:
        async with (
            httpx.AsyncClient(timeout=None) as client,
            client.stream("GET", url + "stream.mjpg") as answer,
        ):
            async for _ in answer.aiter_raw():
                pass

    async def webrtc() -> None:
        import aiortc

        from rtseg.realtime.web import webrtc as ours

        ours._bind_to_one_address()
        ours._own_address.set("127.0.0.1")
        peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        video = peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(url + "webrtc", content=peer.localDescription.sdp)
        answer.raise_for_status()
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(answer.text, "answer"))
        while True:
            await video.receiver.track.recv()

    watch = {"mjpeg": motion_jpeg, "webrtc": webrtc}.get(kind)
    tasks = [numbers() for _ in range(count)]
    tasks += [watch() for _ in range(count)] if watch else []
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    main()
