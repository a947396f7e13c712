"""H.264 for WebRTC: one encoder for all who watch, each frame sent as soon as it is made."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import Rendered, now_ns

if TYPE_CHECKING:
    import av
    from av.video.codeccontext import VideoCodecContext

TICK = Fraction(1, 90_000)
"""RTP's clock for video."""

CRF = 26
MOST_BITS_S = 8_000_000
KEYFRAME_S = 2.0
"""At most so long a page shows damage after a packet was lost for good."""

MOST_WIDTH_PX = 1920
"""Wider pictures are scaled down: browsers decode H.264 in WebRTC up to about that."""


class H264Encoder:
    """x264 without delay: a packet comes out for each frame that goes in.

    It belongs to one thread at a time. Times are those of sending: browsers then see no jitter
    of the loop, which they would wait out.
    """

    def __init__(self) -> None:
        self._context: VideoCodecContext | None = None
        self._like: tuple[int, ...] = ()
        self._last_pts = -1
        self._keyframe_pts = 0

    def encode(self, item: Rendered, *, keyframe: bool) -> list[av.Packet[Any]]:
        """Return the packets of one frame's picture.

        Args:
            item: a frame with a picture; it is not written to.
            keyframe: whether somebody needs a picture that stands for itself.

        Raises:
            SinkError: the encoder refuses it (``CODEC_UNSUPPORTED``).
        """
        from av.error import FFmpegError
        from av.video.frame import PictureType

        assert item.picture is not None
        picture = _own_copy(item.picture)
        pts = max(self._last_pts + 1, now_ns() * 9 // 100_000)
        like = (picture.width, picture.height, int(picture.colorspace), int(picture.color_range))
        if self._context is None or like != self._like:
            self._context, self._like, keyframe = _open(picture), like, True
        if keyframe or pts - self._keyframe_pts >= KEYFRAME_S / TICK:
            picture.pict_type = PictureType.I
            self._keyframe_pts = pts
        picture.pts, picture.time_base = pts, TICK
        self._last_pts = pts
        try:
            return list(self._context.encode(picture))
        except (FFmpegError, ValueError) as error:
            raise SinkError(
                f"cannot encode {picture.width}x{picture.height} as H.264: {error}",
                reason="CODEC_UNSUPPORTED",
            ) from error


def _own_copy(picture: av.VideoFrame) -> av.VideoFrame:
    """Return a copy to write time and type into, scaled down where it is very wide."""
    from rtseg.realtime.yuv import colour_tags, copy_of

    width, height = picture.width, picture.height
    if width <= MOST_WIDTH_PX:
        return copy_of(picture)
    height = max(2, round(height * MOST_WIDTH_PX / width / 2) * 2)
    copy = picture.reformat(width=MOST_WIDTH_PX, height=height, interpolation="FAST_BILINEAR")
    colour_tags(picture).write_to(copy)
    return copy


def _open(picture: av.VideoFrame) -> VideoCodecContext:
    import av

    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = picture.width, picture.height
    context.pix_fmt = "yuv420p"
    context.time_base = TICK
    context.framerate = Fraction(30)
    context.colorspace = picture.colorspace
    context.color_range = picture.color_range
    context.color_trc = picture.color_trc
    context.color_primaries = picture.color_primaries
    context.thread_count = 1
    context.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "crf": str(CRF),
        "maxrate": str(MOST_BITS_S),
        "bufsize": str(MOST_BITS_S // 2),
        "g": "100000",  # keyframes come when they are asked for, or by the clock
        "sc_threshold": "0",
        "forced-idr": "1",
    }
    return context
