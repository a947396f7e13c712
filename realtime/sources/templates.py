"""Descriptions of sound streams that outlive the input they come from."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

_FORMAT = "nut"  # takes every codec, and keeps parameters and ticks as they are


def write_template(
    stream: av.AudioStream, extradata: bytes | None = None, kind: str = _FORMAT
) -> bytes:
    """Return a sound stream's parameters (codec, rate, channels, extradata, tick) as bytes.

    Args:
        stream: of an open input.
        extradata: instead of the stream's own, if any.
        kind: of the description, "nut" or "wav"; WAV knows fewer codecs, and of those the
            size of a block, without which some cannot be decoded.

    Raises:
        ValueError: a codec that has no name in it.
    """
    import av

    described = io.BytesIO()
    with av.open(described, "w", format=kind) as out:
        copy = out.add_stream_from_template(stream, opaque=True)
        if extradata is not None:
            copy.codec_context.extradata = extradata
        nothing = av.Packet(b"\0\0")  # readers want to see one packet
        nothing.pts = nothing.dts = 0
        nothing.stream = copy
        nothing.time_base = Fraction(1, stream.codec_context.sample_rate or 90_000)
        nothing.is_keyframe = True
        out.mux(nothing)
    return described.getvalue()


@contextmanager
def read_template(described: bytes) -> Iterator[av.AudioStream]:
    """Give the stream of :func:`write_template`, for ``add_stream_from_template``."""
    with open_template(described) as container:
        yield container.streams.audio[0]


def open_template(described: bytes) -> InputContainer:
    """Open what :func:`write_template` returned; its one stream has the index 0."""
    import av

    kind = "wav" if described[:4] in (b"RIFF", b"RF64") else _FORMAT
    return av.open(io.BytesIO(described), "r", format=kind)


def open_decoder(stream: av.AudioStream) -> tuple[av.AudioCodecContext, InputContainer]:
    """Return a decoder for packets of ``stream``, open, and what it lives as long as.

    Raises:
        ValueError: there is none, or it wants to know what cannot be described.
    """
    import av

    why: Exception | None = None
    for kind in ("wav", _FORMAT):
        try:
            container = open_template(write_template(stream, kind=kind))
            decoder = container.streams.audio[0].codec_context
            decoder.open(strict=False)
        except (av.error.FFmpegError, ValueError, OSError, IndexError) as error:
            why = error
            continue
        return decoder, container
    raise ValueError(f"it cannot be decoded: {why}")


def detached(stream: av.AudioStream) -> av.AudioStream | None:
    """Return a stream of the same parameters that keeps nothing of its input alive.

    Its index is 0. None where its codec cannot be described.
    """
    import av

    try:
        return open_template(write_template(stream)).streams.audio[0]
    except (av.error.FFmpegError, OSError, ValueError):
        return None


def same_streams(one: Sequence[av.stream.Stream], other: Sequence[av.stream.Stream]) -> bool:
    """Return whether packets of ``one`` can follow packets of ``other`` in one output."""
    return [_parameters(stream) for stream in one] == [_parameters(stream) for stream in other]


def _parameters(stream: av.stream.Stream) -> tuple[object, ...]:
    context: Any = stream.codec_context
    if stream.type != "audio":
        return (stream.index, context.name)
    config = context.extradata or b""
    return (stream.index, context.name, context.sample_rate, context.channels, bytes(config))
