"""Sound and subtitles that go from the source into the output as they are."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

    Packet = av.Packet[Any]

_log = logging.getLogger(__name__)

_START = Fraction(0)
_KEPT_METADATA = ("language", "title", "handler_name")


class Passthrough:
    """The copied streams of an output.

    Args:
        container: the output, before anything was written.
        templates: the source's streams.
        name: the output's name, for warnings.

    A stream whose codec the container does not take is left out, with one warning.
    """

    def __init__(
        self, container: OutputContainer, templates: Iterable[av.stream.Stream], name: str
    ) -> None:
        self._streams: dict[int, av.stream.Stream] = {}
        for template in templates:
            try:
                stream = container.add_stream_from_template(template)
            except (ValueError, OSError) as error:
                codec = template.codec_context.name if template.codec_context else "unknown codec"
                _log.warning(
                    "%s: left out %s track %d (%s%s): %s",
                    name,
                    template.type,
                    template.index,
                    codec,
                    f", {template.language}" if template.language else "",
                    error,
                )
                continue
            for key in _KEPT_METADATA:
                if key in template.metadata:
                    stream.metadata[key] = template.metadata[key]
            stream.disposition = template.disposition
            self._streams[template.index] = stream

    def __len__(self) -> int:
        return len(self._streams)

    def copy(self, packets: Iterable[Packet], origin_s: Fraction = _START) -> list[Packet]:
        """Return copies of the packets whose streams are kept, ready to be muxed.

        ``origin_s`` is taken off their times, in seconds. They are copies because muxing writes
        stream and time base into a packet, and other outputs get the same packets.
        """
        return [
            _copied(packet, self._streams[packet.stream_index], origin_s)
            for packet in packets
            if packet.stream_index in self._streams and packet.size > 0
        ]


def _copied(packet: Packet, stream: av.stream.Stream, origin_s: Fraction) -> Packet:
    import av

    shift = round(origin_s / packet.time_base) if origin_s else 0

    copy: Packet = av.Packet(bytes(packet))
    copy.time_base = packet.time_base
    copy.pts = None if packet.pts is None else packet.pts - shift
    copy.dts = copy.pts if packet.dts is None else packet.dts - shift
    copy.duration = packet.duration
    copy.is_keyframe = packet.is_keyframe
    for data in packet.iter_sidedata():
        copy.set_sidedata(data)
    copy.stream = stream
    return copy
