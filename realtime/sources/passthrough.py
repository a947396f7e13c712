"""Sound and subtitles on their way from the input to the output, not decoded."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rtseg.realtime.sources.timeline import LEAP_S

if TYPE_CHECKING:
    import av

MAX_AHEAD = 4096
"""How many packets may wait for the picture to jump where they have."""


@dataclass(frozen=True)
class Window:
    """Which part of the input's sound goes out, and when.

    Attributes:
        shift_s: seconds to take off each timestamp.
        since_s: what begins earlier is dropped, in the output's seconds; None for nothing.
        until_s: what begins at or after it is dropped, in the output's seconds; None for
            nothing.
    """

    shift_s: Fraction
    since_s: Fraction | None = None
    until_s: Fraction | None = None


class Passthrough:
    """Collects packets of the streams beside the picture, and shifts their timestamps.

    Args:
        streams: the streams whose packets come along.
        templates: what the packets are said to be of, one for each stream; by default the
            streams themselves.

    Attributes:
        streams: the streams whose packets come along.
        templates: what the packets that :meth:`take` returns are of.
    """

    def __init__(
        self,
        streams: Sequence[av.stream.Stream],
        templates: Sequence[av.stream.Stream] | None = None,
    ) -> None:
        self.streams = tuple(streams)
        self.templates = self.streams if templates is None else tuple(templates)
        self._renamed = {
            stream.index: template
            for stream, template in zip(self.streams, self.templates, strict=True)
            if template is not stream
        }
        self._waiting: list[av.Packet[Any]] = []
        self._tracks = {
            stream.index: _Track(stream.time_base or Fraction(1), stream.type == "audio")
            for stream in streams
        }

    @property
    def end_s(self) -> Fraction:
        """Where the sound handed out so far ends, in seconds of the output's time."""
        ends = (track.end * track.tick for track in self._tracks.values() if track.is_sound)
        return max(ends, default=Fraction(0))

    def collect(self, packet: av.Packet[Any]) -> None:
        """Keep a packet until the next frame; what an edit list cuts away is left out."""
        if packet.size and not getattr(packet, "is_discard", False):
            self._waiting.append(packet)

    def clear(self) -> None:
        """Drop what waits: it will be read again."""
        self._waiting.clear()

    @property
    def is_waiting(self) -> bool:
        """Whether packets were collected since the last :meth:`take`."""
        return bool(self._waiting)

    def take(self, window: Window, before_s: Fraction | None = None) -> tuple[av.Packet[Any], ...]:
        """Return what was collected and lies in ``window``, on the frames' time.

        Args:
            window: which part goes out.
            before_s: sound that jumps past it waits until the picture has jumped as well;
                None where times do not jump.
        """
        waiting, self._waiting = self._waiting, []
        placed: list[av.Packet[Any]] = []
        for packet in waiting:
            track = self._tracks[packet.stream_index]
            if before_s is not None and track.is_ahead(packet, window, before_s):
                self._waiting.append(packet)
            elif track.place(packet, window):
                placed.append(packet)
        del self._waiting[:-MAX_AHEAD]
        taken = tuple(placed)
        if self._renamed:
            for packet in taken:
                packet.stream = self._renamed[packet.stream_index]
        return taken


class _Track:
    """One stream's place in time, in its own ticks: no fractions for each packet."""

    def __init__(self, tick: Fraction, is_sound: bool) -> None:
        self.tick = tick
        self.is_sound = is_sound
        self.end = 0
        self._window: Window | None = None
        self._shift = self._since = self._until = 0
        self._last: int | None = None

    def is_ahead(self, packet: av.Packet[Any], window: Window, before_s: Fraction) -> bool:
        """Return whether a packet jumps, from the one before it, past a time of the output."""
        order = packet.pts if packet.dts is None else packet.dts
        if order is None:
            return False
        at = order - round(window.shift_s / self.tick)
        past = at * self.tick > before_s
        return past and (self._last is None or (at - self._last) * self.tick > LEAP_S)

    def place(self, packet: av.Packet[Any], window: Window) -> bool:
        """Shift a packet's timestamps; return whether it goes out."""
        if window is not self._window:
            self._window = window
            self._shift = round(window.shift_s / self.tick)
            since, until = window.since_s, window.until_s
            self._since = -sys.maxsize if since is None else math.ceil(since / self.tick)
            self._until = sys.maxsize if until is None else math.ceil(until / self.tick)
        if packet.pts is not None:
            packet.pts -= self._shift
        if packet.dts is not None:
            packet.dts -= self._shift
        at = packet.dts if packet.pts is None else packet.pts
        if at is None or not self._since <= at < self._until:
            return False
        # Writers refuse a step back, which laps of a loop would make where sound overlaps.
        order = at if packet.dts is None else packet.dts
        if self._last is not None and order <= self._last:
            return False
        self._last = order
        self.end = max(self.end, at + (packet.duration or 0))
        return True
