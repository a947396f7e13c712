"""Which sound a recording of a live source has, decided when its first sound is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from rtseg.realtime.sinks.adts import carries_adts, config_of, is_adts
from rtseg.realtime.sinks.failure import coding_errors
from rtseg.realtime.sources.templates import open_template, write_template

if TYPE_CHECKING:
    import av
    from av import AudioStream

    Packet = av.Packet[Any]

LIVE_OPTIONS = {"max_interleave_delta": "1000000"}
"""Of a muxer: how long pictures may wait for sound that lags or has ended, in microseconds."""

WAIT_S = Fraction(2)
"""For how long of its pictures a recording waits for the first sound, in seconds."""


@dataclass(frozen=True)
class Decided:
    """What a recording begins with.

    Attributes:
        heard: the tracks that have sounded, by their number in the source.
        silent: the numbers of those that have not.
        bare: those of the heard ones whose packets are to go without their ADTS headers.
        pictures: what was encoded meanwhile.
        sound: what was heard meanwhile.
    """

    heard: dict[int, av.stream.Stream]
    silent: tuple[int, ...]
    bare: frozenset[int]
    pictures: tuple[Packet, ...]
    sound: tuple[Packet, ...]


class AwaitedSound:
    """Holds what a recording begins with until it is known which sound comes at all.

    A stream may announce sound that never comes, and a file that announces it cannot be read
    before its end. So the pictures of the first two seconds wait, encoded, until each track has
    sounded; a track that has not by then is left out.

    Args:
        templates: the source's streams besides its pictures.
    """

    def __init__(self, templates: Sequence[av.stream.Stream]) -> None:
        self._templates = {template.index: template for template in templates}
        self._bare = frozenset(
            t.index for t in templates if t.type == "audio" and carries_adts(cast("AudioStream", t))
        )
        self._pictures: list[Packet] = []
        self._sound: list[Packet] = []
        self._sounding: set[int] = set()
        self._waited_s = Fraction(0)

    @property
    def is_decided(self) -> bool:
        """Whether every track has sounded, or enough time has passed."""
        return self._sounding >= self._templates.keys() or self._waited_s >= WAIT_S

    def offer(
        self,
        pictures: Iterable[Packet],
        sound: Iterable[Packet],
        first_s: Fraction,
        end_s: Fraction,
    ) -> None:
        """Take encoded pictures, and the sound that came with them.

        Args:
            pictures: not written to.
            sound: with times as the source has them; what begins before the first picture is
                left out.
            first_s: when the first picture begins, in the source's seconds.
            end_s: when the newest one ends.
        """
        self._pictures += pictures
        self._waited_s = end_s - first_s
        for packet in sound:
            begin = packet.dts if packet.pts is None else packet.pts
            if begin is None or not packet.size or begin * packet.time_base < first_s:
                continue
            if packet.stream_index in self._bare:
                if not is_adts(data := bytes(packet)):
                    continue  # the rest of one that began before the stream was joined
                if not self._is_described(packet.stream_index, data):
                    continue
            self._sound.append(packet)
            self._sounding.add(packet.stream_index)

    def _is_described(self, index: int, data: bytes) -> bool:
        """Return whether a track's template says what files want of it, once a packet does."""
        if index in self._sounding:
            return True
        template = cast("AudioStream", self._templates[index])
        try:
            described = open_template(write_template(template, config_of(data)))
        except coding_errors():  # no such sound
            return False
        self._templates[index] = described.streams.audio[0]
        return True

    def decide(self) -> Decided:
        """Return what there is, and nothing is held any more."""
        heard = {i: t for i, t in self._templates.items() if i in self._sounding}
        silent = tuple(i for i in self._templates if i not in self._sounding)
        decided = Decided(
            heard, silent, self._bare & heard.keys(), tuple(self._pictures), tuple(self._sound)
        )
        self._pictures, self._sound = [], []
        return decided
