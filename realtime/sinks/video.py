"""Video files: H.264 in mp4, mov or mkv, with the source's time stamps, sound and colours."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import RealtimeError, SinkError
from rtseg.realtime.frame import Frame, Rendered
from rtseg.realtime.sinks.awaited_sound import LIVE_OPTIONS, AwaitedSound
from rtseg.realtime.sinks.created import say_when
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.failure import coding_errors, sink_error
from rtseg.realtime.sinks.outfile import OutputFile, refuse_input
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.sinks.stdout import StandardOutput

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from rtseg.realtime.sinks.passthrough import Passthrough

    Packet = av.Packet[Any]

_log = logging.getLogger(__name__)

DEFAULT_FPS = Fraction(30)
"""Frame rate told to the encoder's rate control where the source names none."""

_MOV = {
    # Fragments while recording, so that a killed process leaves a file that plays; turned into
    # an ordinary file at the end (needs FFmpeg 7.1). The delayed header can hold edit lists:
    # without them sound that starts before the picture, or B-frames, would move every time stamp.
    "movflags": "hybrid_fragmented+delay_moov",
    "use_editlist": "1",
    "frag_duration": "1000000",
    "flush_packets": "1",
}
_MATROSKA = {
    "cluster_time_limit": "1000",
    "flush_packets": "1",
    "avoid_negative_ts": "disabled",
}

FORMATS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("mp4", _MOV),
    ".m4v": ("mp4", _MOV),
    ".mov": ("mov", _MOV),
    ".mkv": ("matroska", _MATROSKA),
}
"""Containers by suffix, with FFmpeg's name and options."""

MAX_HELD = 4096
"""How many packets of sound may wait for their picture, where a file has all its sound first."""


class VideoFileSink(Sink):
    """Writes a video file that plays up to the last second whatever happens.

    Time stamps are the source's own ticks (variable frame rates too; Matroska rounds to
    milliseconds). The last frame lasts as long as it did in the source, of frames that were
    thinned out as long as the one before it but not past the source's end. Sound and
    subtitles are copied where the container takes them; of a run that is stopped early, up to
    the end of the last picture. Of a live source it is the sound that has come by the time
    two seconds of pictures have, and never more than a second of pictures waits for it later.

    Args:
        path: the file (its suffix says the container), a directory (the file is then
            ``<stem>_seg.mp4`` in it), or ``-`` for Matroska on standard output.
        options: codec and quality.
        overwrite: whether an existing file may be replaced.

    Attributes:
        origin_s: the source's time that is 0 in the file, in seconds; set before the first
            frame.
    """

    def __init__(
        self,
        path: str | Path,
        options: EncodeOptions | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        self.origin_s = Fraction(0)
        self.name = str(path)
        self.path = Path(path)
        self._options = options if options is not None else EncodeOptions()
        self._overwrite = overwrite
        self._file: OutputFile | StandardOutput | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._passthrough: Passthrough | None = None
        self._context: SinkContext | None = None
        self._time_base = Fraction(1, 90000)
        self._last_pts: int | None = None
        self._last_index = -1
        self._ticks: dict[int, int] = {}
        self._thinned: int | None = None
        self._unfinished: list[Packet] = []
        self._held: list[Packet] = []
        self._awaited: AwaitedSound | None = None
        self._begin_s: Fraction | None = None
        self._end_s = Fraction(0)
        self._encoding = False
        self._header_end: int | None = None
        self._warned: set[str] = set()

    def open(self, context: SinkContext) -> None:
        """Create the file and set the encoder up; see :meth:`Sink.open`."""
        import av

        from rtseg.realtime.sinks.passthrough import Passthrough

        self._context = context
        self._time_base = context.source.time_base
        if self.name == "-":
            suffix, self._file = ".mkv", StandardOutput()
        else:
            if os.path.isdir(self.path):
                self.path /= f"{context.source.stem}_seg.mp4"
                self.name = str(self.path)
            refuse_input(self.path, context.source.path)
            suffix = self.path.suffix.lower()
            if suffix not in FORMATS:
                raise SinkError(
                    f"no container for {self.name}. Allowed: {', '.join(FORMATS)}",
                    reason="CODEC_UNSUPPORTED",
                )
            self._file = OutputFile(self.path, overwrite=self._overwrite)
        container_format, settings = FORMATS[suffix]
        templates = context.source.passthrough if self._options.audio else ()
        if context.source.live and templates:
            self._awaited, templates = AwaitedSound(templates), ()
            settings = {**settings, **LIVE_OPTIONS}
        try:
            self._container = av.open(
                self._file, "w", format=container_format, container_options=settings
            )
            self._stream = self._add_video(self._container, context)
            self._passthrough = Passthrough(self._container, templates, self.name)
        except coding_errors() as error:
            self._give_up()
            raise SinkError(
                f"cannot encode {self.name} as {self._options.codec}: {error}",
                reason="CODEC_UNSUPPORTED",
            ) from error

    def _add_video(self, container: OutputContainer, context: SinkContext) -> VideoStream:
        codec = self._options.resolved
        if codec.encoder == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes to stderr itself
        fps = context.source.fps or DEFAULT_FPS
        stream: VideoStream = container.add_stream(  # type: ignore[assignment]
            codec.encoder,
            rate=fps,
            options=self._options.encoder_options(),
            width=context.picture_width,
            height=context.picture_height,
            time_base=self._time_base,
        )
        coder = stream.codec_context
        coder.pix_fmt = "yuv420p"
        # some containers name a tick rate as their frame rate
        coder.gop_size = min(600, max(1, round(fps * Fraction(self._options.keyframe_s))))
        coder.thread_count = self._options.threads
        if codec.tag and container.format.name in ("mp4", "mov"):
            coder.codec_tag = codec.tag
        if self._options.bitrate_bps is not None:
            coder.bit_rate = self._options.bitrate_bps
        ratio = context.source.sample_aspect_ratio
        if context.sample_aspect_ratio_of_picture and ratio > 0:
            coder.sample_aspect_ratio = ratio
        return stream

    def write(self, item: Rendered) -> None:
        """Encode one picture; see :meth:`Sink.write`."""
        container, stream, passthrough = self._parts()
        picture = item.picture
        if picture is None:
            raise SinkError(f"{self.name} needs pictures. Received: none", reason="BAD_INPUT")
        if self._last_pts is None:
            coder = stream.codec_context
            coder.colorspace = picture.colorspace
            coder.color_range = picture.color_range
            coder.color_trc = picture.color_trc
            coder.color_primaries = picture.color_primaries
            if self._options.creation_time and self._context is not None:
                say_when(container, self._context.source, item.frame, self.origin_s)
        picture = self._timed(item.frame, picture)
        try:
            packets = self._finished(stream.encode(picture))
            self._encoding = True
            if self._awaited is not None:
                self._await_sound(self._awaited, packets, item.frame.packets)
                return
            self._held += passthrough.copy(item.frame.packets, self.origin_s)
            self._mux(container, packets)
            self._mux(container, self._due())
        except coding_errors() as error:
            raise self._failed(error) from error

    def write_packets(self, packets: tuple[Packet, ...]) -> None:
        """Copy the sound after the last frame; see :meth:`Sink.write_packets`."""
        container, _, passthrough = self._parts()
        if not self._encoding:
            return  # no frame came: there will be no file
        try:
            if self._awaited is not None:
                self._await_sound(self._awaited, (), packets)
                self._begin_with_sound()
                packets = ()
            held, self._held = self._held, []
            self._mux(container, held + passthrough.copy(packets, self.origin_s))
        except coding_errors() as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Finish the file; one without a frame is removed. See :meth:`Sink.close`."""
        container, stream, file = self._container, self._stream, self._file
        if container is None or stream is None or file is None:
            return
        if file.failure is not None or not self._encoding:
            self._give_up()
            return
        try:
            if self._thinned is not None:
                self._end_after(self._thinned)
            self._begin_with_sound()
            self._mux(container, self._finished(stream.encode(None), last=True))
            _, _, passthrough = self._parts()
            self._mux(container, passthrough.flush())
            container.close()
            file.mark()
        except coding_errors() as error:
            raise self._failed(error) from error
        finally:
            self._give_up()

    @property
    def end_s(self) -> Fraction:
        """When the last picture ends, in seconds of the file."""
        return self._end_s

    def end_at(self, time_s: Fraction) -> None:
        """Let the last picture last until a time of the source, where the next file begins."""
        self._thinned = None
        if self._last_pts is not None:
            self._set_last(round((time_s - self.origin_s) / self._time_base) - self._last_pts)

    def _end_after(self, gap: int) -> None:
        """Let the last of thinned-out pictures last as the one before, within the source."""
        assert self._last_pts is not None
        length_s = self._context.source.duration_s if self._context is not None else None
        if length_s is not None:
            end = round((Fraction(length_s) - self.origin_s) / self._time_base)
            gap = min(gap, end - self._last_pts)
        if gap > self._ticks.get(self._last_pts, gap):
            self._set_last(gap)

    def _set_last(self, ticks: int) -> None:
        if self._last_pts is not None and self._last_pts in self._ticks and ticks > 0:
            self._ticks[self._last_pts] = ticks
            self._end_s = (self._last_pts + ticks) * self._time_base

    def _await_sound(
        self, awaited: AwaitedSound, pictures: Iterable[Packet], sound: Iterable[Packet]
    ) -> None:
        """Let a live source's pictures wait until it is known which sound there is."""
        assert self._begin_s is not None
        awaited.offer(pictures, sound, self._begin_s, self._end_s + self.origin_s)
        if awaited.is_decided:
            self._begin_with_sound()

    def _begin_with_sound(self) -> None:
        """Begin the file with the tracks that sound, and write what waited for that."""
        if self._awaited is None:
            return
        container, _, passthrough = self._parts()
        decided, self._awaited = self._awaited.decide(), None
        for track in decided.silent:
            _log.warning("%s: no sound came of track %d: left out", self.name, track)
        passthrough.add(decided.heard, decided.bare)
        self._held += passthrough.copy(decided.sound, self.origin_s)
        self._mux(container, decided.pictures)
        self._mux(container, self._due())

    def _parts(self) -> tuple[OutputContainer, VideoStream, Passthrough]:
        if self._container is None or self._stream is None or self._passthrough is None:
            raise SinkError(f"{self.name} is closed. Allowed: writing between open and close")
        if self._file is not None and self._file.failure is not None:
            raise sink_error(self._file.failure, self.name)
        return self._container, self._stream, self._passthrough

    def _timed(self, frame: Frame, picture: av.VideoFrame) -> av.VideoFrame:
        """Give a picture its time in the output's ticks, and note how long it lasts."""
        pts = round((frame.pts * frame.time_base - self.origin_s) / self._time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            self._warn_once("%s: time stamps of the source do not rise; corrected", self.name)
            pts = self._last_pts + 1
        if self._begin_s is None:
            self._begin_s = frame.pts * frame.time_base
        if self._last_pts is not None:
            if self._last_pts in self._ticks:
                self._ticks[self._last_pts] = pts - self._last_pts
            skipped = frame.index > self._last_index + 1
            self._thinned = pts - self._last_pts if skipped else None
        self._ticks[pts] = self._duration(frame, pts)
        self._last_index = frame.index
        self._end_s = (pts + self._ticks[pts]) * self._time_base
        self._last_pts = pts
        if (picture.pts, picture.time_base) == (pts, self._time_base):
            return picture
        # other outputs hold the same picture, so the time is written into a new one
        timed = picture.reformat(format="yuv420p", width=picture.width, height=picture.height)
        if timed is picture:
            from rtseg.realtime.yuv import copy_of

            timed = copy_of(picture)
        timed.pts, timed.time_base = pts, self._time_base
        return timed

    def _duration(self, frame: Frame, pts: int) -> int:
        if frame.lasts_s is not None:
            return max(1, round(frame.lasts_s / self._time_base))
        if self._last_pts is not None:
            return max(1, (pts - self._last_pts) // max(1, frame.index - self._last_index))
        fps = (self._context.source.fps if self._context else None) or DEFAULT_FPS
        return max(1, round(1 / fps / self._time_base))

    def _due(self) -> list[Packet]:
        """Return the sound that begins before the last picture ends; the rest waits.

        Files are read ahead in their sound, so a run that is stopped would otherwise end with
        sound and no picture.
        """
        due: list[Packet] = []
        rest: list[Packet] = []
        for packet in self._held:
            begin = packet.pts if packet.pts is not None else packet.dts
            early = begin is None or begin * packet.time_base < self._end_s
            (due if early else rest).append(packet)
        surplus = max(0, len(rest) - MAX_HELD)
        self._held = rest[surplus:]
        return due + rest[:surplus]

    def _finished(self, packets: Iterable[Packet], *, last: bool = False) -> list[Packet]:
        """Give packets their length; that of the newest picture is known with the next one."""
        waiting, self._unfinished = [*self._unfinished, *packets], []
        waits = not last and self.name != "-"  # who reads a pipe is to have all there is
        finished: list[Packet] = []
        for packet in waiting:
            if waits and (self._unfinished or packet.pts == self._last_pts):
                self._unfinished.append(packet)
                continue
            ticks = self._ticks.pop(packet.pts, None) if packet.pts is not None else None
            if ticks is not None:
                packet.duration = ticks
            finished.append(packet)
        return finished

    def _mux(self, container: OutputContainer, packets: Iterable[Packet]) -> None:
        assert self._file is not None
        for packet in packets:
            container.mux(packet)
            if self._header_end is None:
                self._header_end = self._file.end
            elif self._file.end > self._header_end:
                # a fragment or cluster is written whole within one call
                self._file.mark()

    def _failed(self, error: Exception) -> RealtimeError:
        if self._file is not None and self._file.failure is not None:
            return sink_error(self._file.failure, self.name)
        return SinkError(
            f"cannot encode {self.name} as {self._options.codec}: "
            f"{getattr(error, 'strerror', None) or error}",
            reason="ENCODE_FAILED" if self._encoding else "CODEC_UNSUPPORTED",
        )

    def _warn_once(self, message: str, *values: object) -> None:
        if message not in self._warned:
            self._warned.add(message)
            _log.warning(message, *values)

    def _give_up(self) -> None:
        """Let go of everything; a file that is whole stays as it is."""
        container, file = self._container, self._file
        self._container = self._stream = self._passthrough = None
        if file is not None:
            file.abandon()
        if container is not None:
            try:
                container.close()  # writes nothing: the file is closed
            except coding_errors() as error:
                _log.debug("%s: %s", self.name, error)
