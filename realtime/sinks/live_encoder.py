"""Encoding for receivers that watch now: each picture leaves at once."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rtseg.realtime.sinks.encode import EncodeOptions

if TYPE_CHECKING:
    import av

TICK = Fraction(1, 90_000)
"""Seconds of one tick of the packets' time stamps."""

KEYFRAME_S = 1.0
"""Longest time between two keyframes, seconds: how long who joins waits for a picture."""

_AT_ONCE = {
    # no look-ahead, no B-frames; a keyframe asked for is one that decoding can start at, and
    # carries the parameter sets
    "libx264": {"tune": "zerolatency", "forced-idr": "1"},
    "libx265": {
        "tune": "zerolatency",
        "forced-idr": "1",
        "x265-params": "log-level=error:repeat-headers=1",
    },
}


class LiveEncoder:
    """Encodes pictures one by one, without delay, with a keyframe every second.

    Keyframes follow the pictures' times and not their number, because a slow receiver gets
    fewer pictures.

    Args:
        options: codec and quality.
        width: columns, even, in pixels.
        height: rows, even, in pixels.
        fps: nominal frame rate, for the rate control.
        sample_aspect_ratio: width of a pixel over its height.

    Raises:
        av.error.FFmpegError: the encoder refuses its options (by :meth:`encode`).
    """

    def __init__(
        self,
        options: EncodeOptions,
        width: int,
        height: int,
        fps: Fraction,
        sample_aspect_ratio: Fraction = Fraction(1),
    ) -> None:
        import av

        codec = options.resolved
        coder = av.CodecContext.create(codec.encoder, "w")
        assert isinstance(coder, av.VideoCodecContext)
        coder.width, coder.height, coder.pix_fmt = width, height, "yuv420p"
        coder.time_base, coder.framerate = TICK, fps
        coder.gop_size = max(1, round(10 * fps * Fraction(KEYFRAME_S)))
        coder.thread_count = options.threads
        settings = {**options.encoder_options(), **_AT_ONCE[codec.encoder]}
        if options.bitrate_bps is not None:
            coder.bit_rate = options.bitrate_bps
            # half a second of buffer: a keyframe may not take the line for longer than that
            settings["maxrate"] = str(options.bitrate_bps)
            settings["bufsize"] = str(options.bitrate_bps // 2)
        coder.options = settings
        if sample_aspect_ratio > 0:
            coder.sample_aspect_ratio = sample_aspect_ratio
        self._coder = coder
        self._last: int | None = None
        self._keyframe: int | None = None

    def encode(self, picture: av.VideoFrame, time_s: Fraction) -> list[av.Packet[Any]]:
        """Return the packets of a picture, usually one.

        Args:
            picture: 8-bit yuv420p; not written to.
            time_s: its time in seconds; where times do not rise they are corrected.
        """
        from av.video.frame import PictureType

        from rtseg.realtime.yuv import copy_of

        if self._last is None:
            self._coder.colorspace = picture.colorspace
            self._coder.color_range = picture.color_range
            self._coder.color_trc = picture.color_trc
            self._coder.color_primaries = picture.color_primaries
        pts = round(time_s / TICK)
        if self._last is not None:
            pts = max(pts, self._last + 1)
        self._last = pts
        timed = copy_of(picture)
        timed.pts, timed.time_base = pts, TICK
        if self._keyframe is None or (pts - self._keyframe) * TICK >= KEYFRAME_S:
            timed.pict_type, self._keyframe = PictureType.I, pts
        return list(self._coder.encode(timed))

    def ask_for_keyframe(self) -> None:
        """Make the next picture a keyframe."""
        self._keyframe = None
