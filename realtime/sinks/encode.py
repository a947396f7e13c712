"""How pictures are encoded: codecs by the names users know, quality, bit rate."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from rtseg.realtime.errors import UsageError

MOST_BPS = 2_000_000_000
"""What a bit rate may be at most; encoders count in 32 bits."""


@dataclass(frozen=True)
class Codec:
    """An encoder and what it is told unless the user says otherwise.

    Attributes:
        encoder: FFmpeg's name.
        options: options for real time.
        crf: constant quality, lower is better; the scale is the encoder's own.
        quality_option: FFmpeg's name of the quality option.
        crf_range: what the encoder takes.
        tag: the container tag that players want, or empty.
        presets: trades of speed for size that the encoder knows, the fastest first.
    """

    encoder: str
    options: tuple[tuple[str, str], ...]
    crf: float
    quality_option: str = "crf"
    crf_range: tuple[int, int] = (0, 51)
    tag: str = ""
    presets: tuple[str, ...] = ()


_X26 = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"),
    *("veryslow", "placebo"),
)
_H264 = Codec("libx264", (("preset", "ultrafast"),), 23, presets=_X26)
_H265 = Codec(
    "libx265",
    (("preset", "ultrafast"), ("x265-params", "log-level=error")),
    28,
    tag="hvc1",
    presets=_X26,
)
_AV1 = Codec(
    "libsvtav1",
    (("preset", "10"),),
    35,
    crf_range=(0, 63),
    presets=tuple(str(number) for number in range(13, -1, -1)),
)
_VP9 = Codec(
    "libvpx-vp9",
    (("deadline", "realtime"), ("cpu-used", "8"), ("row-mt", "1")),
    33,
    crf_range=(0, 63),
)
_NVENC = Codec(
    "h264_nvenc",
    (("preset", "p3"), ("tune", "ll")),
    23,
    quality_option="cq",
    presets=tuple(f"p{number}" for number in range(1, 8)),
)

CODECS: dict[str, Codec] = {
    "h264": _H264,
    "h265": _H265,
    "av1": _AV1,
    "vp9": _VP9,
    "h264_nvenc": _NVENC,
}
"""Codecs by the names of ``--codec``. H.264 at x264's ``ultrafast`` is the default: 6 ms of CPU
for a 720p frame, where ``superfast`` takes 17 and ``veryfast`` 26."""

_ALIASES = {"hevc": "h265", "avc": "h264", "x264": "h264", "x265": "h265"}
_ALIASES |= {codec.encoder: name for name, codec in CODECS.items() if name != codec.encoder}


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """What the user may say about encoding.

    Attributes:
        codec: a name of :data:`CODECS` (or FFmpeg's name of the same encoder).
        crf: constant quality, or None for the codec's default.
        bitrate_bps: bits a second instead of constant quality, or None.
        preset: the encoder's preset, or None for the one for real time.
        audio: whether sound (and subtitles) of the source are copied.
        threads: CPU threads of the encoder, 0 for its own choice.
        keyframe_s: longest time between two keyframes, seconds: how fine seeking is.
        creation_time: whether files say at which time of day they begin.

    Raises:
        UsageError: unknown codec or preset, or a number out of range.
    """

    codec: str = "h264"
    crf: float | None = None
    bitrate_bps: int | None = None
    preset: str | None = None
    audio: bool = True
    threads: int = 0
    keyframe_s: float = 2.0
    creation_time: bool = True

    def __post_init__(self) -> None:
        codec = self.resolved
        low, high = codec.crf_range
        if self.crf is not None and not low <= self.crf <= high:
            raise UsageError(f"crf must be {low}..{high} for {self.codec}. Received: {self.crf:g}")
        if self.bitrate_bps is not None and self.bitrate_bps < 1000:
            raise UsageError(
                "the bit rate must be at least 1000 bits a second (4M, 800k). "
                f"Received: {self.bitrate_bps}"
            )
        if self.crf is not None and self.bitrate_bps is not None:
            raise UsageError("crf and bit rate exclude each other. Allowed: one of them")
        if self.preset is not None and self.preset not in codec.presets:
            allowed = ", ".join(codec.presets) or "none"
            raise UsageError(f"unknown preset {self.preset!r} of {self.codec}. Allowed: {allowed}")
        if self.threads < 0:
            raise UsageError(f"threads must be 0 (automatic) or more. Received: {self.threads}")
        if not (self.keyframe_s > 0 and math.isfinite(self.keyframe_s)):
            raise UsageError(f"keyframe_s must be more than 0. Received: {self.keyframe_s}")

    @property
    def resolved(self) -> Codec:
        """The encoder that is meant."""
        name = self.codec.strip().lower()
        name = _ALIASES.get(name, name)
        if name not in CODECS:
            raise UsageError(f"unknown codec {self.codec!r}. Allowed: {', '.join(CODECS)}")
        return CODECS[name]

    def encoder_options(self) -> dict[str, str]:
        """Return FFmpeg's options for the encoder."""
        codec = self.resolved
        options = dict(codec.options)
        if self.preset is not None:
            options["preset"] = self.preset
        if self.bitrate_bps is None:
            options[codec.quality_option] = f"{codec.crf if self.crf is None else self.crf:g}"
        return options


def parse_bitrate(text: str) -> int:
    """Return bits a second from ``4M``, ``800k`` or ``2500000``.

    Raises:
        UsageError: none of these, or more than :data:`MOST_BPS`.

    Example:
        >>> parse_bitrate("2.5M")
        2500000
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmM]?)(?:bit/s|bps|b)?", text.strip(), re.ASCII)
    if match is None:
        raise UsageError(f"--bitrate looks like 4M, 800k or 2500000. Received: {text!r}")
    factor = {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]
    rate_bps = float(match[1]) * factor
    if rate_bps > MOST_BPS:
        raise UsageError(f"--bitrate is {MOST_BPS // 10**6}M at most. Received: {text!r}")
    return round(rate_bps)
