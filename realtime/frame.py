"""What travels through the loop: frames, what a source says of itself, rendered frames."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtseg.realtime.wallclock import utc

if TYPE_CHECKING:
    import av

U8 = NDArray[np.uint8]


def now_ns() -> int:
    """Return the loop's clock: monotonic, in nanoseconds."""
    return time.perf_counter_ns()


@dataclass(frozen=True)
class SourceInfo:
    """What a source knows of itself once it is open.

    Attributes:
        name: what the user typed, without any password; for people.
        stem: short name for output files (``drive`` for ``/data/drive.mp4``).
        width: columns of an upright frame, in pixels.
        height: rows of an upright frame, in pixels.
        fps: nominal frame rate as an exact fraction, or None where there is none.
        frames: number of frames to come, or None where it is not known.
        duration_s: length in seconds, or None where it is not known or has no end.
        live: True for cameras, streams and screens: time does not wait for the reader.
        time_base: seconds of one tick of ``Frame.pts``.
        sample_aspect_ratio: width of a pixel over its height.
        passthrough: the input's sound and subtitle streams whose packets come along in
            ``Frame.packets``; templates for the streams of an output file.
        path: the one file that is read, where the source is a file; ``name`` is for people only.
        pictures: the files to come in a lap, where the source is pictures.
        created_at: the time of day at the first frame, where a file says when it was made.
    """

    name: str
    stem: str
    width: int
    height: int
    fps: Fraction | None = None
    frames: int | None = None
    duration_s: float | None = None
    live: bool = False
    time_base: Fraction = Fraction(1, 90000)
    sample_aspect_ratio: Fraction = Fraction(1, 1)
    passthrough: tuple[av.stream.Stream, ...] = ()
    path: Path | None = None
    pictures: tuple[Path, ...] = field(default=(), repr=False)
    created_at: datetime | None = None


@dataclass(frozen=True)
class Frame:
    """One upright video frame on its way through the loop.

    Attributes:
        index: position in the source, from 0; gaps are frames that were dropped.
        video: the picture in the decoder's own pixel format. It is shared with the
            decoder: never written to.
        pts: presentation time in ticks of ``time_base``, from 0 at the first frame.
        time_base: seconds of one tick.
        captured_ns: when the decoder handed the frame over, on :func:`now_ns`'s clock.
        decode_ms: how long the decoder took for it (waiting for a live source excluded
            as far as the source can tell).
        packets: sound and subtitle packets read before this frame, timestamps shifted as
            the frame's are.
        damaged: whether data is missing or broken in front of it or in it: the decoder fills
            such places from earlier pictures.
        source_size: width and height that the source gave it, where ``video`` was scaled to
            the first frame's.
        path: the file that it is, where the source is pictures.
    """

    index: int
    video: av.VideoFrame
    pts: int
    time_base: Fraction
    captured_ns: int = field(default_factory=now_ns)
    decode_ms: float = 0.0
    packets: tuple[av.Packet[Any], ...] = ()
    damaged: bool = False
    source_size: tuple[int, int] | None = None
    path: Path | None = None

    @property
    def pts_s(self) -> float:
        """Presentation time in seconds from the first frame."""
        return float(self.pts * self.time_base)

    @property
    def lasts_s(self) -> Fraction | None:
        """How long the source shows it, in seconds; None where it does not say."""
        ticks = getattr(self.video, "duration", 0) or 0
        if ticks > 0 and self.video.time_base:
            return Fraction(ticks * self.video.time_base)
        return None

    @property
    def captured_at(self) -> datetime:
        """``captured_ns`` as the time of day, in UTC."""
        return utc(self.captured_ns)

    def __repr__(self) -> str:
        return (
            f"Frame(index={self.index}, pts_s={self.pts_s:.3f}, "
            f"{self.video.width}x{self.video.height} {self.video.format.name})"
        )


@dataclass(frozen=True)
class Rendered:
    """A frame with its result, ready for the sinks.

    Attributes:
        frame: the frame as it came from the source.
        labels: uint8, H×W at the engine's size: class ids.
        picture: what the viewer sees, 8-bit ``yuv420p`` with even size, or None when no
            sink wants a picture. It belongs to the loop: sinks read it, never write.
        stages_ms: milliseconds of each stage so far, by name (see ``profile.STAGES``).
    """

    frame: Frame
    labels: U8
    picture: av.VideoFrame | None
    stages_ms: dict[str, float] = field(default_factory=dict)
