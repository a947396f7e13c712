"""A live page that is fed with frames, and what tests need around it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import Frame, Rendered, now_ns
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.web import WebSink
from rtseg.realtime.view import ViewOptions
from rtseg.realtime.web.address import WebAddress
from rtseg.realtime.web.options import WebOptions
from tests.media import picture
from tests.realtime.sinks.parts import TICKS, TIME_BASE, context

SIZE = (320, 192)
TOKEN = "a-token-for-tests"


@dataclass
class Fed:
    """A page, and the loop's side of it."""

    sink: WebSink
    controls: Controls
    profiler: Profiler
    stop: threading.Event
    written: int = 0

    @property
    def url(self) -> str:
        """The page's address on this machine, without a slash at the end."""
        return f"http://127.0.0.1:{self.sink.address.port}"

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.sink.address.port}"


def labels() -> np.ndarray:
    """Road on the left, sky on the right."""
    ids = np.zeros((24, 40), np.uint8)
    ids[:, 20:] = CITYSCAPES.index("sky")
    return ids


@contextmanager
def page(
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    interval_s: float = 0.02,
    size: tuple[int, int] = SIZE,
) -> Iterator[Fed]:
    """Serve a page, and feed it with frames rendered as the visitors wish."""
    controls, profiler = Controls(ViewOptions()), Profiler()
    options = WebOptions(token=token, profiler=profiler, classes=CITYSCAPES)
    sink = WebSink(WebAddress(host, 0), controls, options)
    fed = Fed(sink, controls, profiler, threading.Event())
    renderer = Renderer(CITYSCAPES, controls=controls)

    def feed() -> None:
        while not fed.stop.wait(interval_s):
            if controls.paused and not controls.take_step():
                continue
            index = fed.written
            video = picture(index, size)
            video.colorspace, video.color_range = 1, 1
            frame = Frame(index, video, index * TICKS, TIME_BASE)
            profiler.frame_in(frame.captured_ns)
            image = renderer.render(frame, labels())
            try:
                sink.write(Rendered(frame, labels(), image, {"infer": 1.5}))
            except SinkError:
                if fed.stop.is_set():  # the test closed the page itself
                    return
                raise
            profiler.frame_out(
                index=index,
                pts_s=frame.pts_s,
                captured_ns=frame.captured_ns,
                presented_ns=now_ns(),
                stages_ms={"infer": 1.5, "render": 0.5},
            )
            fed.written += 1

    thread = threading.Thread(target=feed, name="test-feeder")
    with sink:
        sink.open(context(size, live=True))
        thread.start()
        try:
            yield fed
        finally:
            fed.stop.set()
            thread.join()
