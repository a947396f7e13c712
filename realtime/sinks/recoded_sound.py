"""Sound that a container cannot hold as it is, encoded again as AAC."""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtseg.realtime.sinks.adts import RATES_HZ
from rtseg.realtime.sources.templates import open_decoder

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

    Packet = av.Packet[Any]

_log = logging.getLogger(__name__)

_BITS_A_CHANNEL = 64_000
_JITTER_S = Fraction(1, 20)
"""Packets that are no further from where the last one ended follow it without a gap."""


class RecodedSound:
    """One track of an output that is decoded and encoded again, at the source's times.

    A gap in the source is one in the output; what overlaps with sound before it is left out.

    Args:
        container: the output, before anything was written.
        template: the source's track.

    Raises:
        ValueError: no decoder or no encoder for it.
        OSError: the same, as FFmpeg says it.
    """

    def __init__(self, container: OutputContainer, template: av.AudioStream) -> None:
        import av

        # A decoder of its own: other outputs may need the same track's.
        self._decoder, self._described = open_decoder(template)
        asked = self._decoder.sample_rate
        rate = min(RATES_HZ, key=lambda known: abs(known - asked))
        layout = "mono" if self._decoder.channels == 1 else "stereo"
        channels = 1 if layout == "mono" else 2
        self._rate = rate
        self._converter = av.AudioResampler("fltp", layout, rate)
        self._stream: av.AudioStream = container.add_stream("aac", rate=rate, layout=layout)
        self._coder = self._stream.codec_context
        self._coder.bit_rate = channels * min(_BITS_A_CHANNEL, 2 * rate)
        self._layout = layout
        self._waiting: NDArray[np.float32] = np.zeros((channels, 0), np.float32)
        self._begin: int | None = None  # where the waiting samples begin, in samples

    def recode(self, packet: Packet, origin_s: Fraction) -> list[Packet]:
        """Return what a packet of the source makes whole; damaged sound is left out.

        Args:
            packet: of the track; not written to.
            origin_s: is taken off its time, in seconds.
        """
        import av

        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            return []
        time_s = stamp * packet.time_base - origin_s
        try:
            copy: Packet = av.Packet(bytes(packet))
            frames = self._decoder.decode(copy)
            parts = [part.to_ndarray() for frame in frames for part in self._converted(frame)]
        except (av.error.FFmpegError, ValueError) as error:
            _log.debug("sound that cannot be decoded is left out: %s", error)
            return []
        made: list[Packet] = []
        for part in parts:
            samples = part.astype(np.float32, copy=False)
            made += self._gone_on(samples, round(time_s * self._rate))
            time_s += Fraction(samples.shape[1], self._rate)
        return made

    def flush(self) -> list[Packet]:
        """Return what is left at the end."""
        return [*self._rest(), *self._stream.encode(None)]

    def _converted(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        frame.pts = None  # times are kept here, in samples
        return self._converter.resample(frame)

    def _gone_on(self, samples: NDArray[np.float32], begin: int) -> list[Packet]:
        """Put samples behind those that wait; return what is whole."""
        made: list[Packet] = []
        if self._begin is not None:
            ahead = begin - (self._begin + self._waiting.shape[1])
            if ahead > _JITTER_S * self._rate:
                made += self._rest()
            elif -ahead > _JITTER_S * self._rate:
                samples = samples[:, -ahead:]
        if self._begin is None:
            self._begin = begin
        self._waiting = np.concatenate([self._waiting, samples], axis=1)
        size = self._coder.frame_size or 1024
        while self._waiting.shape[1] >= size:
            made += self._encoded(self._waiting[:, :size])
            self._waiting = self._waiting[:, size:]
        return made

    def _rest(self) -> list[Packet]:
        """Encode what waits, filled up with silence; what follows begins anew."""
        made: list[Packet] = []
        if self._waiting.shape[1] and self._begin is not None:
            size = self._coder.frame_size or 1024
            missing = size - self._waiting.shape[1]
            made = self._encoded(np.pad(self._waiting, ((0, 0), (0, missing))))
        self._waiting, self._begin = self._waiting[:, :0], None
        return made

    def _encoded(self, samples: NDArray[np.float32]) -> list[Packet]:
        import av

        assert self._begin is not None
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=self._layout
        )
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._begin
        self._begin += samples.shape[1]
        return self._stream.encode(frame)
