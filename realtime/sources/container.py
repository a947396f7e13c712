"""What files, streams, cameras and screens share: FFmpeg opens them, through PyAV."""

from __future__ import annotations

import dataclasses
import logging
import math
from abc import abstractmethod
from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame, SourceInfo, now_ns
from rtseg.realtime.sources.av_errors import source_error
from rtseg.realtime.sources.decode import FrameReader
from rtseg.realtime.sources.interrupt import Gate, call_apart
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pace import Pace
from rtseg.realtime.sources.passthrough import Passthrough
from rtseg.realtime.sources.probe import (
    count_frames,
    creation_time,
    length_s,
    others_left_out,
    video_stream,
)
from rtseg.realtime.sources.source import Source
from rtseg.realtime.sources.templates import detached

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

STALE_NS = 500_000_000
"""A live source's first frame is left out from this age on, or once two more must have come."""


def _stale_after_ns(info: SourceInfo) -> float:
    return STALE_NS if info.fps is None else min(STALE_NS, 2e9 / float(info.fps))


class ContainerSource(Source):
    """A source that FFmpeg reads.

    Subclasses say how to connect (:meth:`_connect`) and whether time waits for the reader
    (:meth:`_is_live`). Decoding runs in the thread that iterates :meth:`frames`; a live
    source connects in a helper thread, which is gone when :meth:`open` returns.

    Args:
        name: the source as it may be shown to people.
        stem: short name for output files.
        options: what the user asked for.
        live: whether the source goes on without its reader, as far as known beforehand.
        sound: whether sound and subtitles of a source that is not live come along.
        path: the file that is read, if it is one.
    """

    def __init__(
        self,
        name: str,
        stem: str,
        options: SourceOptions,
        *,
        live: bool,
        sound: bool = False,
        path: Path | None = None,
    ) -> None:
        self._path = path
        self._name = name
        self._stem = stem
        self._options = options
        self._live = live
        self._carries_sound = sound
        self._gate = Gate()
        self._container: InputContainer | None = None
        self._reader: FrameReader | None = None
        self._frames: Iterator[Frame] = iter(())
        self._first: Frame | None = None
        self._info: SourceInfo | None = None
        self._pace: Pace | None = None

    @abstractmethod
    def _connect(self) -> InputContainer:
        """Open the container; the caller translates PyAV's errors."""

    def _is_live(self, container: InputContainer) -> bool:
        """Say whether time waits for the reader, now that the container is open."""
        return self._live

    def _explained(self, error: av.FFmpegError) -> SourceError:
        """Return what ``error`` means for the user."""
        return source_error(
            error,
            self._name,
            broken=self._live and self._info is not None,
            timeout_s=self._options.timeout_s,
        )

    @property
    def info(self) -> SourceInfo:
        """What :meth:`open` returned."""
        if self._info is None:
            raise SourceError(f"{self._name}: not open; call open() first", reason="NOT_OPEN")
        return self._info

    def open(self) -> SourceInfo:
        """Connect, decode the first frame, and return what the source says of itself."""
        if self._info is not None:
            return self._info
        if self._gate.is_shut():
            raise SourceError(f"{self._name}: closed; make a new source", reason="CLOSED")
        try:
            if self._live:
                self._info = call_apart(self._open, self._gate, self._options.timeout_s)
            else:
                self._info = self._open()
        except InterruptedError:
            if self._gate.is_shut():
                raise SourceError(f"{self._name}: closed while opening", reason="CLOSED") from None
            raise SourceError(
                f"{self._name}: no answer within {self._options.timeout_s:g} s (--timeout)",
                reason="TIMEOUT",
            ) from None
        finally:
            if self._info is None:
                self._gate.shut(self._release)
        return self._info

    def frames(self) -> Iterator[Frame]:
        """Yield every frame until the source ends or is closed; see :class:`Source`."""
        reader, info = self._reader, self.info
        first, self._first = self._first, None
        if first is not None and reader is not None and not self._gate.is_shut():
            if info.live and now_ns() - first.captured_ns > _stale_after_ns(info):
                reader.forget()
            elif info.live:
                yield self._paced(first)
            else:  # it waited for the engine, which is no latency of the loop
                yield dataclasses.replace(first, captured_ns=now_ns())
        while not self._gate.is_shut():
            with self._gate:
                frame = self._next()
            if frame is None:
                break
            frame = self._paced(frame)
            if not self._gate.is_shut():
                yield frame
        if self._gate.is_shut():
            self._gate.shut(self._release)
        elif reader is not None and reader.damaged:
            log.warning("%s: %d damaged packets were skipped", self._name, reader.damaged)

    def remaining_packets(self) -> tuple[av.Packet[Any], ...]:
        """Return sound and subtitle packets that came after the last frame."""
        return () if self._reader is None else self._reader.take_packets()

    def close(self) -> None:
        """Let go; a reader that waits in :meth:`frames` is called back first."""
        if not self._gate.shut(self._release):
            log.warning("%s: its reader has not stopped yet", self._name)

    def _next(self) -> Frame | None:
        import av

        if self._gate.is_shut():
            return None
        try:
            return next(self._frames, None)
        except av.FFmpegError as error:
            if self._gate.is_shut():
                return None
            raise self._explained(error) from None

    def _paced(self, frame: Frame) -> Frame:
        """Wait until a frame of a stream that comes in bursts is due; others go at once."""
        if self._pace is None:
            return frame
        wait_s = self._pace.wait_s(frame.pts_s, now_ns() / 1e9)
        if not wait_s:
            return frame
        self._gate.wait(wait_s)
        return dataclasses.replace(frame, captured_ns=now_ns())

    def _release(self) -> None:
        self._frames = iter(())
        self._first = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> SourceInfo:
        import av

        with self._gate:
            try:
                self._container = self._connect()
                return self._prepare(self._container)
            except av.FFmpegError as error:
                if self._gate.is_shut():
                    raise InterruptedError from None
                raise self._explained(error) from None

    def _prepare(self, container: InputContainer) -> SourceInfo:
        track = self._options.track
        video = video_stream(container, self._name, track)
        self._live = self._is_live(container)
        known = self._live or track is not None
        if not known and (said := others_left_out(container, video)):
            log.warning("%s: %s", self._name, said)
        self._pace = Pace() if self._live and container.format.name == "hls" else None
        video.codec_context.thread_count = self._options.threads
        # Frame threads hold frames back, which a live picture cannot afford.
        video.codec_context.thread_type = "SLICE" if self._live else "AUTO"
        sound = self._beside_pictures(container)
        self._reader = FrameReader(
            container, video, sound, self._options, live=self._live, name=self._name
        )
        # Only a decoded picture tells the true size, and whether there is one at all.
        self._frames = self._reader.frames()
        self._first = next(self._frames, None)
        if self._first is None:
            raise SourceError(self._why_no_frames(container, video), reason="NO_FRAMES")
        aspect = video.sample_aspect_ratio or Fraction(1)
        duration_s, frames = (None, None) if self._live else self._extent(container, video)
        return SourceInfo(
            name=self._name,
            stem=self._stem,
            width=self._first.video.width,
            height=self._first.video.height,
            fps=self._reader.rate,
            frames=frames,
            duration_s=duration_s,
            live=self._live,
            time_base=self._reader.time_base,
            sample_aspect_ratio=1 / aspect if self._reader.turner.transposes else aspect,
            passthrough=sound.templates,
            path=self._path,
            created_at=None if self._live else self._created_at(container),
        )

    def _beside_pictures(self, container: InputContainer) -> Passthrough:
        """Return where packets of sound and subtitles go; for a live stream, sound if asked for."""
        if not self._carries_sound:
            return Passthrough(())
        if not self._live:
            return Passthrough((*container.streams.audio, *container.streams.subtitles))
        tracks = container.streams.audio[:1] if self._options.live_sound else ()
        # Outputs keep templates for as long as they run, and a connection is not to last as long.
        copies = [(track, detached(track)) for track in tracks]
        kept = {track: copy for track, copy in copies if copy is not None}
        return Passthrough(tuple(kept), tuple(kept.values()))

    def _created_at(self, container: InputContainer) -> datetime | None:
        """Return the time of day where reading begins."""
        made = creation_time(container)
        try:
            return None if made is None else made + timedelta(seconds=self._options.start_s)
        except OverflowError:
            return None

    def _extent(
        self, container: InputContainer, video: VideoStream
    ) -> tuple[float | None, int | None]:
        """Return how many seconds and frames are to come, each None where not known."""
        options = self._options
        length, frames = length_s(container, video), count_frames(video)
        if self._reader is not None and self._reader.counted:
            length = None  # FFmpeg's is that of another rate
        if options.start_s or options.duration_s is not None:
            left = None if length is None else max(0.0, length - options.start_s)
            parts = [part for part in (left, options.duration_s) if part is not None]
            length, frames = min(parts) if parts else None, None
        if frames is None and length is not None and video.average_rate:
            # A limit ends before the first frame at or past it; a length is that of frames.
            count = round(length * video.average_rate, 3)
            frames = max(1, math.ceil(count) if length == options.duration_s else round(count))
        if options.loop == 0:
            return None, None
        return (
            None if length is None else length * options.loop,
            None if frames is None else frames * options.loop,
        )

    def _why_no_frames(self, container: InputContainer, video: VideoStream) -> str:
        length = length_s(container, video)
        start_s = self._options.start_s
        if length is not None and start_s >= length > 0:
            return f"{self._name}: --start {start_s:g} is past its end (it lasts {length:.2f} s)"
        damaged = 0 if self._reader is None else self._reader.damaged
        why = f"; {damaged} damaged packets" if damaged else ""
        return f"{self._name}: not one frame could be decoded{why}"


def time_limits(options: SourceOptions) -> tuple[float, float]:
    """Return PyAV's limits for opening and for each read of a live source, in seconds.

    Opening as a whole is watched from outside; this limit only has to be there, since
    without one PyAV's calls cannot be interrupted at all.
    """
    return options.timeout_s + 60, options.timeout_s
