"""AAC as MPEG-TS carries it: each packet behind an ADTS header (ISO/IEC 13818-7, 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

_HEADER_BYTES = 7
_CHECKED_HEADER_BYTES = 9  # with a checksum
RATES_HZ = (
    96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350,
)  # fmt: skip
"""Rates that MPEG-4 has a number for, by that number."""


def carries_adts(track: av.AudioStream) -> bool:
    """Return whether a track is AAC that is described in its packets alone."""
    context = track.codec_context
    return context.codec.canonical_name == "aac" and not context.extradata


def is_adts(data: bytes) -> bool:
    """Return whether a packet begins with a header and has something behind it."""
    if len(data) <= _HEADER_BYTES or data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        return False
    length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    return data[2] >> 2 & 15 < len(RATES_HZ) and _HEADER_BYTES < length <= len(data)


def without_adts(data: bytes) -> bytes:
    """Return a packet, for which :func:`is_adts` holds, without its header."""
    return data[_HEADER_BYTES if data[1] & 1 else _CHECKED_HEADER_BYTES :]


def config_of(data: bytes) -> bytes:
    """Return MPEG-4's AudioSpecificConfig as the header of such a packet says it."""
    rate = (data[2] >> 2) & 15
    channels = (data[2] & 1) << 2 | data[3] >> 6
    return _config((data[2] >> 6) + 1, rate, channels)


def likely_config(track: av.AudioStream) -> bytes:
    """Return the AudioSpecificConfig of such a track, before a packet of it is seen.

    It says what the core is (AAC-LC); what HE-AAC adds, at twice the core's rate and with two
    channels from one, decoders find in the packets. Empty where there is none for that.
    """
    context = track.codec_context
    profile = context.profile or ""
    rate_hz = (context.sample_rate or 0) // (2 if profile.startswith("HE-AAC") else 1)
    channels = 1 if profile == "HE-AACv2" else context.channels
    if rate_hz not in RATES_HZ or not 1 <= channels <= 6:
        return b""
    return _config(2, RATES_HZ.index(rate_hz), channels)


def _config(kind: int, rate: int, channels: int) -> bytes:
    return (kind << 11 | rate << 7 | channels << 3).to_bytes(2, "big")
