"""From the packets of an open container to upright frames on a clean timeline."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rtseg.engines.deinterlace import Deinterlacer
from rtseg.engines.upright import Turner
from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame, now_ns
from rtseg.realtime.sources.hwaccel import say_if_software
from rtseg.realtime.sources.options import SourceOptions, exact
from rtseg.realtime.sources.passthrough import Passthrough, Window
from rtseg.realtime.sources.probe import frame_rate, names_no_times
from rtseg.realtime.sources.timeline import Timeline
from rtseg.realtime.sources.tonemap import ToneMapper

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

DEFAULT_TIME_BASE = Fraction(1, 90_000)
NS = Fraction(1, 1_000_000_000)
MAY_JUMP = 0x200
"""FFmpeg's mark (``AVFMT_TS_DISCONT``) of formats whose times may jump."""
INTERLEAVE_S = 1
MPEG_MARGIN_S = 5


class FrameReader:
    """Decodes one video stream; not thread-safe.

    Args:
        container: the open input.
        video: its stream to decode.
        sound: where packets of other streams go.
        options: start, duration, loop, time limit, rate and turning; a live input heeds the
            last three alone (its duration is that of `LimitedSource`).
        live: whether time does not wait for the reader.
        name: the source as it may be shown.

    Attributes:
        damaged: packets that could not be decoded so far.
        turner: what brings frames upright.
        counted: whether times are counted at a rate that was asked for.
        rate: frames per second, as stated or as asked for; None where there is none.
    """

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream,
        sound: Passthrough,
        options: SourceOptions,
        *,
        live: bool,
        name: str,
    ) -> None:
        self.damaged = 0
        self._hurt = False
        self._said_hurt = False
        self.turner = Turner(options.rotate, options.flip)
        self._fields = Deinterlacer(name)
        self._tones = ToneMapper(name)
        self._container = container
        self._video = video
        self._sound = sound
        self._timeout_ns = options.timeout_s * 1e9 if live else math.inf
        self._start_s = Fraction(0) if live else exact(options.start_s)
        no_limit = live or options.duration_s is None
        self._duration_s = None if no_limit else exact(options.duration_s or 0)
        self._laps = 1 if live else options.loop
        self._live = live
        self._name = name
        # What sends bare pictures (HTTP cameras) names no times; FFmpeg's are those of 25 a second.
        self._clocked = live and names_no_times(container)
        stated = options.fps if names_no_times(container) else None
        self.rate = frame_rate(video) if stated is None else exact(stated)
        self.counted = stated is not None and not live
        known = None if self._clocked else video.time_base
        self._tick = known or DEFAULT_TIME_BASE
        jumps = not self._clocked and (live or bool(container.format.flags & MAY_JUMP))
        self._timeline = Timeline(self._tick, self.rate, jumps=jumps)
        self._device = options.hwaccel
        self._index = 0
        self._lap_end = 0
        self._searchable = not self.counted
        # There a search by time may land behind its goal.
        self._without_index = container.format.name in ("mpegts", "mpeg")
        # AVI keeps no order of showing: with B-frames FFmpeg's timestamps run to and fro there.
        self._in_read_order = container.format.name == "avi"
        self._ready_packets: tuple[av.Packet[Any], ...] = ()
        self._window = Window(Fraction(0))
        self._window_shift: int | None = None
        self._since_s: Fraction | None = None
        self._until_s: Fraction | None = None

    @property
    def time_base(self) -> Fraction:
        """Seconds of one tick of the frames' timestamps."""
        return self._tick

    def forget(self) -> None:
        """Count and time from 0 again, as if no frame had been read yet."""
        self._index = 0
        self._timeline.reset()

    def take_packets(self) -> tuple[av.Packet[Any], ...]:
        """Return the sound and subtitle packets read since the last frame."""
        ready, self._ready_packets = self._ready_packets, ()
        shift = self._timeline.shift
        if shift is None or not self._sound.is_waiting:
            return ready
        if shift != self._window_shift:
            self._window = Window(shift * self._tick, self._since_s, self._until_s)
            self._window_shift = shift
        leap, last = self._timeline.leap, self._timeline.last
        before_s = None if leap is None else (last + leap) * self._tick
        return ready + self._sound.take(self._window, before_s)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of every lap.

        Raises:
            av.FFmpegError: the input broke.
            SourceError: ``TIMEOUT`` when a live input sends, but no picture.
        """
        lap = 0
        while True:
            lap += 1
            before = self._index
            yield from self._lap()
            if lap == self._laps or self._index == before or not self._rewind():
                return

    def _lap(self) -> Iterator[Frame]:
        timeline, tick = self._timeline, self._tick
        begun, until = False, sys.maxsize
        for raw, picture, decode_ms, captured_ns in self._wanted():
            if begun and timeline.at(raw) >= until:
                self._lap_end = timeline.at(raw)
                self._collect_sound()
                return
            pts = timeline.place(raw)
            if not begun:
                begun = True
                until = self._begin_window(pts)
            index = self._index
            self._index += 1
            yield Frame(
                index=index,
                video=self._shown(picture),
                pts=pts,
                time_base=tick,
                captured_ns=captured_ns,
                decode_ms=decode_ms,
                packets=self.take_packets(),
                damaged=self._was_hurt(),
            )
        self._lap_end = timeline.last + timeline.step

    def _shown(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Return a decoded picture progressive, upright and in SDR."""
        return self._tones.to_sdr(self.turner.upright(self._fields.progressive(picture)))

    def _was_hurt(self) -> bool:
        hurt, self._hurt = self._hurt, False
        if hurt and not self._said_hurt:
            self._said_hurt = True
            log.warning("%s: data is missing or damaged, and pictures show it", self._name)
        return hurt

    def _begin_window(self, pts: int) -> int:
        """Set which sound goes with a lap that begins at ``pts``; return where it ends."""
        # A first lap from the first frame keeps the packets before it: they prime the
        # sound decoder. A live stream may have sent sound for seconds before its first keyframe.
        whole = not self._start_s and not pts and not self._live
        self._since_s = None if whole else pts * self._tick
        self._window_shift = None
        if self._duration_s is None:
            return sys.maxsize
        self._until_s = pts * self._tick + self._duration_s
        return math.ceil(self._until_s / self._tick)

    def _wanted(self) -> Iterator[tuple[int, av.VideoFrame, float, int]]:
        """Yield the pictures from ``--start`` on, each with its raw timestamp."""
        goal = self._seek()
        fresh = True
        pictures = self._pictures()
        while True:
            read = next(pictures, None)
            if read is None:
                if goal is not None and fresh and self._to_begin():
                    pictures, fresh = self._pictures(), False  # landed behind the last frame
                    continue
                return
            picture, decode_ms, captured_ns = read
            raw = self._raw(picture, captured_ns)
            if self._start_s and fresh:
                if goal is None:
                    goal = raw + math.ceil(self._start_s / self._tick)
                elif raw > goal and self._to_begin():
                    # FFmpeg landed behind the goal: read everything before it instead.
                    pictures, fresh = self._pictures(), False
                    continue
            fresh = False
            if goal is None or raw >= goal:
                yield raw, picture, decode_ms, captured_ns

    def _raw(self, picture: av.VideoFrame, captured_ns: int) -> int:
        """Return the input's timestamp of a picture, or when it came where the input has none."""
        if self._clocked:
            return round(captured_ns * NS / self._tick)
        if self.counted:
            return self._timeline.raw(None)
        return self._timeline.raw(picture.dts if self._in_read_order else picture.pts)

    def _first_raw(self) -> int | None:
        """Return the timestamp of the first frame, None where it is not known beforehand."""
        if not self._in_read_order:
            return self._video.start_time
        read = next(self._pictures(), None)  # late by as much as the codec reorders
        self._sound.clear()
        return None if read is None else self._raw(read[0], read[2])

    def _pictures(self) -> Iterator[tuple[av.VideoFrame, float, int]]:
        """Yield decoded pictures with decode time (ms) and when they were ready (ns)."""
        import av

        video, spent_ns, newest_ns = self._video, 0, now_ns()
        for packet in self._packets():
            if packet is not None and packet.stream.index != video.index:
                self._sound.collect(packet)
                self._refuse_wait(now_ns() - newest_ns)
                continue
            self._hurt |= packet is not None and packet.is_corrupt
            begun_ns = now_ns()
            try:
                pictures = video.codec_context.decode(packet)
            except av.error.EOFError:
                return
            except av.FFmpegError as error:
                self.damaged += 1
                self._hurt = True
                if self.damaged == 1:
                    log.warning("%s: damaged data is skipped (%s)", self._name, error.strerror)
                pictures = []
            done_ns = now_ns()
            spent_ns += done_ns - begun_ns
            if not pictures:
                self._refuse_wait(done_ns - newest_ns)
            for picture in pictures:
                if self._device != "none":
                    say_if_software(video.codec_context, picture, self._device, self._name)
                    self._device = "none"  # the first one tells
                self._hurt |= picture.is_corrupt
                picture.time_base = self._tick
                if self.counted:
                    picture.duration = 0  # FFmpeg's is that of another rate
                yield picture, spent_ns / 1e6, done_ns
                spent_ns, newest_ns = 0, now_ns()  # what the taker waited is not the input's

    def _refuse_wait(self, waited_ns: int) -> None:
        """End a live input that sends, but no picture for too long."""
        if waited_ns > self._timeout_ns:
            raise SourceError(
                f"{self._name}: data, but no picture within "
                f"{self._timeout_ns / 1e9:g} s (--timeout)",
                reason="TIMEOUT",
            )

    def _packets(self) -> Iterator[av.Packet[Any] | None]:
        """Yield packets of all streams wanted, and None at the end to flush the decoder."""
        import av

        demuxed = self._container.demux((self._video, *self._sound.streams))
        while True:
            try:
                packet = next(demuxed, None)
            except av.error.InvalidDataError as error:
                if self._live:
                    raise
                log.warning(
                    "%s: cut off or damaged, read as far as it goes (%s)",
                    self._name,
                    error.strerror,
                )
                packet = None
            if packet is None or (packet.size == 0 and packet.dts is None):
                yield None
                return
            yield packet

    def _collect_sound(self) -> None:
        """Read on, without decoding, until the sound has reached the end of the picture."""
        if not self._sound.streams or self._until_s is None:
            return
        shift = self._timeline.shift or 0
        for packet in self._packets():
            if packet is None:
                return
            stamp = packet.pts if packet.dts is None else packet.dts
            if stamp is not None:
                at_s = stamp * packet.time_base - shift * self._tick
                if at_s > self._until_s + INTERLEAVE_S:
                    return
            if packet.stream.index != self._video.index:
                self._sound.collect(packet)

    def _seek(self) -> int | None:
        """Go to the keyframe before ``--start``; return the raw timestamp to begin at.

        None where the input cannot be searched: everything before is decoded then.
        """
        import av

        begin = self._video.start_time
        if not self._start_s or begin is None or not self._searchable:
            return None
        first = self._first_raw()
        if first is None:
            return None
        goal = first + math.ceil(self._start_s / self._tick)
        try:
            margin = round(MPEG_MARGIN_S / self._tick) if self._without_index else first - begin
            self._container.seek(max(goal - margin, begin), stream=self._video)
        except av.FFmpegError as error:
            log.info("%s: cannot be searched (%s)", self._name, error.strerror)
            self._searchable = False
            return None
        return goal

    def _to_begin(self) -> bool:
        """Go back to the first frame; False where the input cannot."""
        import av

        self._sound.clear()
        try:
            if self._video.start_time is None or self._without_index:
                self._container.seek(0, unsupported_byte_offset=True)
            else:
                self._container.seek(self._video.start_time, stream=self._video)
        except av.FFmpegError as error:
            log.warning("%s: cannot be played again (%s)", self._name, error.strerror)
            return False
        return True

    def _rewind(self) -> bool:
        """Prepare the next lap: it begins where picture and sound have both ended."""
        self._ready_packets += self.take_packets()
        if not self._to_begin():
            return False
        sound_end = math.ceil(self._sound.end_s / self._tick)
        self._timeline.restart(max(self._lap_end, sound_end))
        self._until_s = None
        return True
