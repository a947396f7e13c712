"""Sound and subtitles on their way from the input to the output, not decoded."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av


class Passthrough:
    """Collects packets of the streams beside the picture, and shifts their timestamps.

    Attributes:
        streams: the streams whose packets come along.
        end_s: where the sound handed out so far ends, in seconds of the output's time.
    """

    def __init__(self, streams: Sequence[av.stream.Stream]) -> None:
        self.streams = tuple(streams)
        self.end_s = Fraction(0)
        self._waiting: list[av.Packet[Any]] = []
        self._last_dts: dict[int, int] = {}

    def collect(self, packet: av.Packet[Any]) -> None:
        """Keep a packet until the next frame; what an edit list cuts away is left out."""
        if packet.size and not getattr(packet, "is_discard", False):
            self._waiting.append(packet)

    def clear(self) -> None:
        """Drop what waits: it will be read again."""
        self._waiting.clear()

    def take(
        self,
        shift_s: Fraction | None,
        since_s: Fraction | None = None,
        until_s: Fraction | None = None,
    ) -> tuple[av.Packet[Any], ...]:
        """Return what was collected, on the frames' time.

        Args:
            shift_s: seconds to take off each timestamp; None drops everything.
            since_s: what begins earlier is dropped, in the output's seconds.
            until_s: what begins at or after it is dropped.
        """
        if not self._waiting:
            return ()
        waiting, self._waiting = self._waiting, []
        if shift_s is None:
            return ()
        return tuple(p for p in waiting if self._place(p, shift_s, since_s, until_s))

    def _place(
        self,
        packet: av.Packet[Any],
        shift_s: Fraction,
        since_s: Fraction | None,
        until_s: Fraction | None,
    ) -> bool:
        tick = packet.time_base
        shift = round(shift_s / tick)
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
        at = packet.dts if packet.pts is None else packet.pts
        if at is None:
            return False
        if since_s is not None and at * tick < since_s:
            return False
        if until_s is not None and at * tick >= until_s:
            return False
        # Writers refuse a step back, which laps of a loop would make where sound overlaps.
        order = at if packet.dts is None else packet.dts
        last = self._last_dts.get(packet.stream_index)
        if last is not None and order <= last:
            return False
        self._last_dts[packet.stream_index] = order
        if packet.stream.type == "audio":
            self.end_s = max(self.end_s, (at + (packet.duration or 0)) * tick)
        return True
