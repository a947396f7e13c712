"""Small sources, engines and sinks of known behaviour, for tests of the loop itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np

from rtseg.engines.engine import Engine, EngineProfile, EngineTiming, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.labels import ClassTable
from rtseg.engines.spec import EngineSpec
from rtseg.realtime.errors import SinkError, SourceError
from rtseg.realtime.frame import U8, Frame, Rendered, SourceInfo
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.sources.source import Source

TWO_CLASSES = ClassTable(("dark", "bright"), ((0, 0, 0), (255, 255, 255)))


def gray_video_frame(level: int, width: int = 64, height: int = 32) -> av.VideoFrame:
    rgb = np.full((height, width, 3), level, np.uint8)
    return av.VideoFrame.from_ndarray(rgb, format="rgb24")


class GraySource(Source):
    """Frames of one gray each, frame n of level n modulo 256; live ones keep the clock."""

    def __init__(
        self,
        count: int,
        *,
        fps: int = 30,
        live: bool = False,
        fail_at: int | None = None,
        fail_open: bool = False,
        hang_at: int | None = None,
    ) -> None:
        self._hang_at = hang_at
        self._count = count
        self._fps = fps
        self._fail_at = fail_at
        self._fail_open = fail_open
        self.closed = threading.Event()
        self._info = SourceInfo(
            name="gray",
            stem="gray",
            width=64,
            height=32,
            fps=Fraction(fps),
            frames=count,
            live=live,
            time_base=Fraction(1, fps),
        )

    def open(self) -> SourceInfo:
        if self._fail_open:
            raise SourceError("gray refuses. Received: fail_open", reason="CONNECTION_FAILED")
        return self._info

    @property
    def info(self) -> SourceInfo:
        return self._info

    def frames(self) -> Iterator[Frame]:
        start_s = time.monotonic()
        for index in range(self._count):
            if self._info.live:
                self.closed.wait(max(0.0, start_s + index / self._fps - time.monotonic()))
            if self.closed.is_set():
                return
            if index == self._hang_at:
                self.closed.wait()
                return
            if index == self._fail_at:
                raise SourceError(f"gray broke at frame {index}", reason="CONNECTION_FAILED")
            yield Frame(index, gray_video_frame(index % 256), index, self._info.time_base)

    def close(self) -> None:
        self.closed.set()


def street_frame(seed: int, layout: str, size: tuple[int, int] = (91, 51)) -> av.VideoFrame:
    """Return coloured noise of a width and height in a decoder's format."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(small, format="rgb24")
    return frame.reformat(*size, format=layout)


class StreetSource(GraySource):
    """Coloured frames of an odd size, in formats that take turns.

    Args:
        count: how many.
        formats: FFmpeg's names.
        told: hears each frame's number before it comes.
    """

    def __init__(
        self, count: int, *formats: str, told: Callable[[int], None] | None = None
    ) -> None:
        super().__init__(count)
        self._formats = formats
        self._told = told
        self._info = replace(self._info, width=91, height=51)

    def frames(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self._told is not None:
                self._told(index)
            frame = street_frame(index, self._formats[index % len(self._formats)])
            yield Frame(index, frame, index, self._info.time_base)


class BrightnessEngine(Engine):
    """A true two-class network: bright where the mean of the three channels is over 127."""

    def __init__(
        self,
        *,
        infer_s: float = 0.0,
        requests: int = 2,
        fail_at: int | None = None,
        max_batch: int = 1,
    ) -> None:
        self._spec = EngineSpec("brightness", 16, 32, TWO_CLASSES)
        self._infer_s = infer_s
        self._requests = requests
        self._fail_at = fail_at
        self._max_batch = max_batch
        self.batches: list[int] = []
        self._room = threading.Semaphore(requests)
        self._lock = threading.Lock()
        self.runs = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = False

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    @property
    def requests(self) -> int:
        return self._requests

    @property
    def max_batch(self) -> int:
        return self._max_batch

    def submit(self, frames: U8) -> Handle:
        self.check_frames(frames)
        self.batches.append(len(frames))
        self._room.acquire()
        with self._lock:
            self.runs += 1
            run = self.runs
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return Handle((frames, time.monotonic(), run))

    def result(self, handle: Handle) -> U8:
        frames, start_s, run = handle.payload  # type: ignore[misc]
        time.sleep(max(0.0, start_s + self._infer_s - time.monotonic()))
        with self._lock:
            self.in_flight -= 1
        self._room.release()
        if run == self._fail_at:
            raise EngineError("the device was lost", reason="ENGINE_FAILED")
        handle.timing = EngineTiming(infer_ms=self._infer_s * 1e3)
        bright: U8 = (frames.mean(axis=3) > 127).astype(np.uint8)
        return bright

    def profile(self) -> EngineProfile:
        return EngineProfile("test", "none", "fp32", "1", self._requests, 1)

    def close(self) -> None:
        self.closed = True


class PlainPainter:
    """Pictures that show the labels as luma."""

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        return width, height

    def render(self, frame: Frame, labels: U8) -> av.VideoFrame:
        picture = gray_video_frame(int(labels[0, 0]) * 255, frame.video.width, frame.video.height)
        return picture.reformat(format="yuv420p")


class ListSink(Sink):
    """Keeps what it is given; may be slow, hang for a while or break."""

    def __init__(
        self,
        *,
        wants_picture: bool = False,
        write_s: float = 0.0,
        fail_at: int | None = None,
        fail_open: bool = False,
        name: str = "list",
    ) -> None:
        self.wants_picture = wants_picture
        self.name = name
        self._write_s = write_s
        self._fail_at = fail_at
        self._fail_open = fail_open
        self.items: list[Rendered] = []
        self.context: SinkContext | None = None
        self.closed = 0
        self.trailing: list[object] = []
        self.threads: set[str] = set()

    def _note(self) -> None:
        self.threads.add(threading.current_thread().name)

    def open(self, context: SinkContext) -> None:
        self._note()
        if self._fail_open:
            raise SinkError("no room for the list", reason="NO_SPACE")
        self.context = context

    def write(self, item: Rendered) -> None:
        self._note()
        if len(self.items) == self._fail_at:
            raise SinkError("the list is full", reason="NO_SPACE")
        time.sleep(self._write_s)
        self.items.append(item)

    def write_packets(self, packets: tuple[av.Packet, ...]) -> None:
        self.trailing.extend(packets)

    def close(self) -> None:
        self._note()
        self.closed += 1
