"""What a container says of its picture before anything is decoded."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timezone
from fractions import Fraction
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.options import SourceOptions

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

FASTEST_FPS = 300
NO_TIMESTAMPS = 0x80
"""FFmpeg's mark (``AVFMT_NOTIMESTAMPS``) of formats that name no times."""
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_AV_TIME_BASE = 1_000_000
_LONGEST_INDEX = 500_000


def video_stream(container: InputContainer, name: str, track: int | None = None) -> VideoStream:
    """Return the stream to decode, cover pictures left out.

    Args:
        container: the open input.
        name: the source as it may be shown.
        track: which one, from 1; None for FFmpeg's choice.

    Raises:
        SourceError: ``NOT_A_VIDEO``, ``NOT_FOUND`` (no such track) or ``CODEC_UNSUPPORTED``.
    """
    pictures = _tracks(container)
    if not pictures:
        kinds = sorted({stream.type for stream in container.streams})
        held = " and ".join(kinds) if kinds else "nothing that can be read"
        raise SourceError(f"{name}: no picture in it, only {held}", reason="NOT_A_VIDEO")
    best = container.streams.best("video")
    chosen = next((stream for stream in pictures if stream is best), pictures[0])
    if track is not None:
        if track > len(pictures):
            raise SourceError(
                f"{name}: it has {len(pictures)} video track{'s' * (len(pictures) > 1)}. "
                f"Received: --track {track}",
                reason="NOT_FOUND",
            )
        chosen = pictures[track - 1]
    if chosen.codec_context is None:
        raise SourceError(
            f"{name}: FFmpeg has no decoder for its picture", reason="CODEC_UNSUPPORTED"
        )
    return chosen


def _tracks(container: InputContainer) -> list[VideoStream]:
    """Return the video tracks, without cover pictures."""
    from av.stream import Disposition

    return [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]


def creation_time(container: InputContainer) -> datetime | None:
    """Return when a file says that it was made, in UTC; None where it does not."""
    text = container.metadata.get("creation_time", "")
    try:
        made = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        return made.replace(tzinfo=made.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def others_left_out(container: InputContainer, chosen: VideoStream) -> str | None:
    """Return what a file of several video tracks, such as front and rear camera, should say.

    The variants of one picture in an HLS or DASH list are no other pictures.
    """
    tracks = _tracks(container)
    if len(tracks) < 2 or container.format.name in ("hls", "dash"):
        return None
    number = tracks.index(chosen) + 1
    return (
        f"{len(tracks)} video tracks; only number {number} ({chosen.width}x{chosen.height}) is "
        f"segmented. Another one: --track N (1 to {len(tracks)})"
    )


def names_no_times(container: InputContainer) -> bool:
    """Say whether its format has no times, as bare H.264 and Motion JPEG have none."""
    return bool(container.format.flags & NO_TIMESTAMPS)


def say_unused(container: InputContainer, options: SourceOptions, name: str) -> None:
    """Warn of a size and a rate that were asked of something that has its own."""
    if options.width is not None or (options.fps is not None and not names_no_times(container)):
        log.warning(
            "%s: --width, --height and --fps are asked of cameras; a video keeps its own", name
        )


def frame_rate(video: VideoStream) -> Fraction | None:
    """Return the nominal frame rate, or None where there is none that makes sense."""
    for rate in (video.guessed_rate, video.average_rate, video.base_rate):
        if rate and 0 < rate <= FASTEST_FPS:
            return Fraction(rate)
    return None


def length_s(container: InputContainer, video: VideoStream) -> float | None:
    """Return the length of the picture in seconds, or None where it is not written down."""
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    # Matroska writes the length of each stream as a tag; the container's may be the sound's.
    tag = _CLOCK.fullmatch(video.metadata.get("DURATION", ""))
    if tag is not None:
        end_s = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
        return _without_start(end_s, float((video.start_time or 0) * (video.time_base or 0)))
    if container.duration and container.duration > 0:
        length = container.duration / _AV_TIME_BASE
        if not container.format.name.startswith("matroska"):
            return length
        return _without_start(length, (container.start_time or 0) / _AV_TIME_BASE)
    return None


def _without_start(end_s: float, start_s: float) -> float:
    """Return the length of a Matroska file: FFmpeg notes the end as its length."""
    return end_s - start_s if 0 < start_s < end_s else end_s


def count_frames(video: VideoStream) -> int | None:
    """Return how many frames will be shown, or None where the container does not know.

    An MP4 with an edit list holds packets that are decoded and never shown; its index
    marks them.
    """
    index = getattr(video, "index_entries", ())
    if video.frames and len(index) == video.frames <= _LONGEST_INDEX:
        return sum(not entry.is_discard for entry in index)
    return video.frames or None
