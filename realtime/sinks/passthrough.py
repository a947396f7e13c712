"""Sound and subtitles that go from the source into the output as they are."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from rtseg.realtime.log import NOTICE
from rtseg.realtime.sinks.adts import carries_adts, is_adts, likely_config, without_adts
from rtseg.realtime.sinks.recoded_sound import RecodedSound
from rtseg.realtime.sources.templates import open_template, write_template

if TYPE_CHECKING:
    import av
    from av.container import InputContainer, OutputContainer

    Packet = av.Packet[Any]

_log = logging.getLogger(__name__)

_START = Fraction(0)
_KEPT_METADATA = ("language", "title", "handler_name")
_REFUSED_LATE = {"mov": frozenset({"opus", "flac"})}
"""Codecs that a container takes and only refuses when its header is written."""


class Passthrough:
    """The copied streams of an output.

    Args:
        container: the output, before anything was written.
        templates: the source's streams.
        name: the output's name, for warnings.

    Sound whose codec the container does not take is encoded again as AAC, which a log line says;
    any other stream is left out, with one warning.
    """

    def __init__(
        self, container: OutputContainer, templates: Iterable[av.stream.Stream], name: str
    ) -> None:
        self._container = container
        self._name = name
        self._streams: dict[int, av.stream.Stream] = {}
        self._bare: set[int] = set()
        self._newest_s: dict[int, Fraction] = {}
        self._recoded: dict[int, RecodedSound] = {}
        self._described: list[InputContainer] = []  # templates live as long as these
        self.add({template.index: template for template in templates})

    def add(
        self, templates: Mapping[int, av.stream.Stream], bare: Collection[int] = frozenset()
    ) -> None:
        """Take more streams of the source; only before anything was written.

        Args:
            templates: by their number in the source.
            bare: those whose packets are AAC that goes without its ADTS headers.
        """
        self._bare.update(bare)
        for index, template in templates.items():
            try:
                stream = self._add_as_it_is(index, template)
            except (ValueError, OSError) as error:
                self._add_otherwise(index, template, error)
                continue
            for key in _KEPT_METADATA:
                if key in template.metadata:
                    stream.metadata[key] = template.metadata[key]
            stream.disposition = template.disposition
            self._streams[index] = stream

    def _add_as_it_is(self, index: int, template: av.stream.Stream) -> av.stream.Stream:
        """Return a stream of the output that takes the packets of ``template``."""
        container = self._container
        if template.type == "audio" and template.codec_context:
            track = cast("av.AudioStream", template)
            codec, kind = track.codec_context.codec.canonical_name, container.format.name
            if codec in _REFUSED_LATE.get(kind, ()):
                raise ValueError(f"{kind} has no {codec}")
            if index not in self._bare and carries_adts(track):
                config = likely_config(track)
                if not config:
                    raise ValueError(f"{kind} cannot describe it")
                self._described.append(open_template(write_template(track, config)))
                self._bare.add(index)
                described = self._described[-1].streams.audio[0]
                return container.add_stream_from_template(described)
        return container.add_stream_from_template(template)

    def _add_otherwise(self, index: int, template: av.stream.Stream, error: Exception) -> None:
        """Encode sound again that the container does not hold; leave anything else out."""
        codec = template.codec_context.name if template.codec_context else "unknown codec"
        if template.type == "audio":
            try:
                self._recoded[index] = RecodedSound(
                    self._container, cast("av.AudioStream", template)
                )
                _log.log(NOTICE, "%s: %s is encoded again as aac: %s", self._name, codec, error)
                return
            except (ValueError, OSError) as why:
                error = why
        _log.warning(
            "%s: left out %s track %d (%s%s): %s",
            self._name,
            template.type,
            index,
            codec,
            f", {template.language}" if template.language else "",
            error,
        )

    def __len__(self) -> int:
        return len(self._streams) + len(self._recoded)

    def copy(self, packets: Iterable[Packet], origin_s: Fraction = _START) -> list[Packet]:
        """Return copies of the packets whose streams are kept, ready to be muxed.

        ``origin_s`` is taken off their times, in seconds. They are copies because muxing writes
        stream and time base into a packet, and other outputs get the same packets. What steps back
        in time, as sound may where a stream was connected anew, is left out: muxers refuse it.
        """
        copies: list[Packet] = []
        for packet in packets:
            stream = self._streams.get(packet.stream_index)
            recoded = self._recoded.get(packet.stream_index)
            if (stream is None and recoded is None) or packet.size == 0:
                continue
            if not self._is_newer(packet):
                continue
            if stream is None:
                assert recoded is not None
                copies += recoded.recode(packet, origin_s)
                continue
            data = bytes(packet)
            if packet.stream_index in self._bare:
                if not is_adts(data):
                    continue  # half a packet, as where a stream is joined
                data = without_adts(data)
            copies.append(_copied(packet, data, stream, origin_s))
        return copies

    def flush(self) -> list[Packet]:
        """Return the last packets of sound that was encoded again."""
        return [packet for recoded in self._recoded.values() for packet in recoded.flush()]

    def _is_newer(self, packet: Packet) -> bool:
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None:
            return True
        time_s = stamp * packet.time_base
        newest_s = self._newest_s.get(packet.stream_index)
        if newest_s is not None and time_s <= newest_s:
            return False
        self._newest_s[packet.stream_index] = time_s
        return True


def _copied(packet: Packet, data: bytes, stream: av.stream.Stream, origin_s: Fraction) -> Packet:
    import av

    shift = round(origin_s / packet.time_base) if origin_s else 0

    copy: Packet = av.Packet(data)
    copy.time_base = packet.time_base
    copy.pts = None if packet.pts is None else packet.pts - shift
    copy.dts = copy.pts if packet.dts is None else packet.dts - shift
    copy.duration = packet.duration
    copy.is_keyframe = packet.is_keyframe
    for beside in packet.iter_sidedata():
        copy.set_sidedata(beside)
    copy.stream = stream
    return copy
