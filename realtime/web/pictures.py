"""Pictures as bytes for browsers: JPEG for the video without WebRTC, PNG for snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtseg.realtime.errors import SinkError

if TYPE_CHECKING:
    import av

JPEG_QUALITY = 80
"""About 130 kB for a 720p street picture."""


def to_jpeg(picture: av.VideoFrame) -> bytes:
    """Return a picture as JPEG.

    OpenCV's libjpeg-turbo by way of BGR takes half the time of FFmpeg's MJPEG encoder, which
    would take YUV as it is, but only that of JPEG's own matrix and range.

    Raises:
        SinkError: it cannot be encoded (``CODEC_UNSUPPORTED``).
    """
    import cv2

    from rtseg.realtime.sinks.images import to_bgr

    done, data = cv2.imencode(".jpg", to_bgr(picture), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise SinkError(
            f"cannot encode {picture.width}x{picture.height} as JPEG", reason="CODEC_UNSUPPORTED"
        )
    return bytes(data.tobytes())


def to_png(picture: av.VideoFrame) -> bytes:
    """Return a picture as PNG, without loss.

    Raises:
        SinkError: it cannot be encoded (``CODEC_UNSUPPORTED``).
    """
    from rtseg.realtime.sinks.images import encode_image, to_bgr

    return encode_image(to_bgr(picture), ".png")
