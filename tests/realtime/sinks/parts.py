"""What sinks need in tests: a context, rendered frames, and a way to read files back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.spec import EngineSpec
from rtseg.realtime.frame import Frame, Rendered, SourceInfo
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.view import ViewOptions
from tests.media import picture

SIZE = (96, 64)
TIME_BASE = Fraction(1, 12800)
TICKS = 512  # 25 frames a second
SUFFIXES = [".mp4", ".mov", ".mkv"]
SPEC = EngineSpec("test", 32, 48, classes=CITYSCAPES)


def tolerance(suffix: str) -> Fraction:
    """Matroska keeps whole milliseconds, the others the source's own ticks."""
    return Fraction(1, 2000) if suffix == ".mkv" else Fraction(0)


def context(size: tuple[int, int] = SIZE, **info: object) -> SinkContext:
    source = SourceInfo(
        name="a source",
        stem="drive",
        width=size[0],
        height=size[1],
        fps=Fraction(25),
        time_base=TIME_BASE,
    )
    source = replace(source, **info)  # type: ignore[arg-type]
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    return SinkContext(source, SPEC, *even)


def labels_of(index: int, shape: tuple[int, int] = (8, 12)) -> np.ndarray:
    labels = np.random.default_rng(index).integers(0, 19, shape, np.uint8)
    labels[0, 0] = 255
    return labels


def rendered(
    count: int,
    size: tuple[int, int] = SIZE,
    pts: list[int] | None = None,
    **info: object,
) -> Iterator[Rendered]:
    """Yield frames with labels and pictures, one after the other."""
    renderer = Renderer(CITYSCAPES, ViewOptions())
    for index in range(count):
        video = picture(index, size)
        video.colorspace, video.color_range = 1, 1
        frame = Frame(index, video, pts[index] if pts else index * TICKS, TIME_BASE)
        labels = labels_of(index)
        yield Rendered(frame, labels, renderer.render(frame, labels), {"infer": 1.5})


def write_frames(sink: Sink, count: int, **options: object) -> None:
    for item in rendered(count, **options):  # type: ignore[arg-type]
        sink.write(item)


@dataclass
class Read:
    """A video file as it was read back."""

    pts_s: list[Fraction] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    duration_s: Fraction | None = None
    first: av.VideoFrame | None = None
    packets: dict[int, list[tuple[Fraction, int]]] = field(default_factory=dict)
    streams: list[tuple[str, str, str | None, int]] = field(default_factory=list)
    colours: tuple[int, int, int, int] = (0, 0, 0, 0)
    pixel_format: str = ""
    aspect: Fraction | None = None


def read(path: Path) -> Read:
    """Decode every frame of a file, and list the packets of its other streams."""
    result = Read()
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        result.aspect = video.sample_aspect_ratio
        for stream in file.streams:
            kind = (stream.type, stream.codec_context.name, stream.language)
            result.streams.append((*kind, int(stream.disposition)))
        if video.duration is not None:
            result.duration_s = video.duration * video.time_base
        for packet in file.demux():
            if packet.stream.type != "video":
                if packet.size:
                    entry = (packet.pts * packet.time_base, packet.size)
                    result.packets.setdefault(packet.stream.index, []).append(entry)
                continue
            for frame in packet.decode():
                assert isinstance(frame, av.VideoFrame)
                result.pts_s.append(frame.pts * frame.time_base)
                if result.first is None:
                    result.first = frame
                    result.size = (frame.width, frame.height)
                    result.pixel_format = frame.format.name
                    result.colours = (
                        int(frame.colorspace), int(frame.color_range),
                        int(frame.color_trc), int(frame.color_primaries),
                    )  # fmt: skip
    return result


class BrokenStream:
    """An output's stream whose encoder fails with an error of FFmpeg's own kind."""

    def __init__(self, stream: av.VideoStream) -> None:
        self.codec_context = stream.codec_context

    def encode(self, frame: object, *_: object) -> list[av.Packet]:
        raise av.error.ExternalError(-542398533, "Generic error in an external library")


def fill_with_noise(sink: Sink, written: list[Rendered]) -> None:
    """Write frames that hardly compress, until that fails; what was written is added to a list."""
    random = np.random.default_rng(0)
    for item in rendered(3000, size=(320, 240)):
        assert item.picture is not None
        luma = np.frombuffer(item.picture.planes[0], np.uint8).reshape(240, -1)
        luma[:8] = random.integers(0, 255, luma[:8].shape, np.uint8)
        sink.write(item)
        written.append(item)
