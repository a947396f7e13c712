"""The sound of a network output: in which form it goes, and which of it belongs to a picture."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rtseg.realtime.sinks.adts import (
    carries_adts,
    config_of,
    is_adts,
    likely_config,
    without_adts,
)
from rtseg.realtime.sinks.failure import coding_errors
from rtseg.realtime.sinks.network import NetworkAddress
from rtseg.realtime.sources.templates import read_template, write_template

if TYPE_CHECKING:
    import av

    Packet = av.Packet[Any]

_log = logging.getLogger(__name__)

MAX_PACKETS = 4096
"""How many packets may wait for their picture; what a file reads further ahead is left out."""

BEHIND_S = Fraction(1)
"""Sound that is older than the newest picture by this belongs to pictures that were left out."""


@dataclass(frozen=True)
class Taken:
    """Sound that goes with a picture.

    Attributes:
        before: what is heard before the picture.
        after: the packet behind it, if it has been read: the muxer lets a picture go once it
            has seen what follows.
    """

    before: tuple[Packet, ...] = ()
    after: Packet | None = None


class SoundFeed:
    """Keeps the packets of one sound stream until their pictures go; never many.

    AAC goes as MPEG-4 has it, without the ADTS headers of MPEG-TS.

    Args:
        template: the source's stream; not needed any more afterwards.

    Attributes:
        codec: FFmpeg's name of the codec.

    Raises:
        ValueError: a codec that cannot be described.
    """

    def __init__(self, template: av.AudioStream) -> None:
        context = template.codec_context
        self._index = template.index
        self._tick = Fraction(1, context.sample_rate or 90_000)
        self.codec = codec_of(template)
        self._adts = carries_adts(template)
        self._header = write_template(template)
        if self._adts and (config := likely_config(template)):
            self._header = write_template(template, config)
        self._guessed = self._adts
        self._waiting: deque[Packet] = deque()
        self._last: int | None = None
        self._lock = threading.Lock()
        self._left_out = 0
        self._begins = True

    @property
    def left_out(self) -> int:
        """How many packets did not go: their pictures did not either, or there were too many."""
        return self._left_out

    @property
    def header(self) -> bytes:
        """The stream's parameters, for :func:`~rtseg.realtime.sources.templates.read_template`."""
        return self._header

    def offer(self, packets: Iterable[Packet]) -> None:
        """Take what was read; packets that came before, or were overtaken, are skipped.

        Args:
            packets: sound and other packets; not written to.
        """
        with self._lock:
            for packet in packets:
                stamp = packet.dts if packet.pts is None else packet.pts
                if packet.stream_index != self._index or not packet.size or stamp is None:
                    continue
                begin = round(stamp * packet.time_base / self._tick)
                if self._last is not None and begin <= self._last:
                    continue
                self._last = begin
                if len(self._waiting) >= MAX_PACKETS:
                    self._left_out += 1
                else:
                    self._waiting.append(self._copied(packet, begin))

    def forget(self, before_s: Fraction) -> None:
        """Leave out what begins before ``before_s`` seconds: it is too old to go."""
        with self._lock:
            self._forget_before(before_s)

    def begin(self) -> None:
        """Begin a connection: with the sound of the next picture that is taken for."""
        with self._lock:
            self._begins = True

    def take(self, until_s: Fraction, origin_s: Fraction) -> Taken:
        """Return what begins before ``until_s``, and the next packet if there is one.

        Args:
            until_s: the picture's time, in seconds.
            origin_s: is taken off the packets' times.
        """
        with self._lock:
            if self._begins:
                self._begins = False
                self._forget_before(until_s)
            before = []
            while self._waiting and self._time_s(self._waiting[0]) < until_s:
                before.append(self._waiting.popleft())
            after = self._waiting.popleft() if self._waiting else None
        shift = round(origin_s / self._tick)
        for packet in (*before, *(() if after is None else (after,))):
            assert packet.pts is not None
            packet.pts -= shift
            packet.dts = packet.pts
        return Taken(tuple(before), after)

    def _forget_before(self, time_s: Fraction) -> None:
        while self._waiting and self._time_s(self._waiting[0]) < time_s:
            self._waiting.popleft()
            self._left_out += 1

    def _time_s(self, packet: Packet) -> Fraction:
        assert packet.pts is not None
        return packet.pts * self._tick

    def _copied(self, packet: Packet, begin: int) -> Packet:
        import av

        data = bytes(packet)
        if self._adts:
            data = self._without_adts(data)
        copy: Packet = av.Packet(data)
        copy.time_base = self._tick
        copy.pts = copy.dts = begin
        copy.duration = round((packet.duration or 0) * packet.time_base / self._tick)
        copy.is_keyframe = True
        return copy

    def _without_adts(self, data: bytes) -> bytes:
        """Take the header off a frame of AAC; the first one says what the stream is."""
        if not is_adts(data):
            return data
        if self._guessed:
            self._guessed = False
            with read_template(self._header) as template:
                self._header = write_template(template, config_of(data))
        return without_adts(data)


def open_feed(streams: Iterable[av.stream.Stream], address: NetworkAddress) -> SoundFeed | None:
    """Return the feed of the first sound stream; None, with a log line, where it cannot go.

    Args:
        streams: the source's, besides its pictures.
        address: where the output goes.
    """
    sounds = [stream for stream in streams if stream.type == "audio"]
    if not sounds:
        return None
    template: av.AudioStream = sounds[0]  # type: ignore[assignment]
    if not sounds[0].codec_context:
        _log.warning("%s: the sound is left out: its codec is unknown", address.shown)
        return None
    codec = codec_of(template)
    why = address.refuses_sound(codec, template.codec_context.sample_rate)
    if why is None:
        try:
            return SoundFeed(template)
        except coding_errors() as error:
            why = f"{codec} cannot be copied ({error})"
    _log.warning("%s: the sound is left out: %s", address.shown, why)
    return None


def codec_of(template: av.AudioStream) -> str:
    """Return a stream's codec as the standards call it (``mp3``, not ``mp3float``)."""
    return str(template.codec_context.codec.canonical_name)
