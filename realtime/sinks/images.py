"""Numbered pictures: ``frame_%06d.png`` or ``.jpg``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.frame import U8, Rendered
from rtseg.realtime.numbered import CODE, is_pattern, names_of
from rtseg.realtime.sinks.outfile import write_whole
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.yuv import as_rgb

if TYPE_CHECKING:
    import av

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
JPEG_QUALITY = 95


def to_bgr(picture: av.VideoFrame) -> U8:
    """Convert a picture to H×W×3 uint8, blue first, in its own matrix and range."""
    return as_rgb(picture, "bgr24")


def encode_image(array: U8, suffix: str) -> bytes:
    """Return a gray (H×W) or BGR (H×W×3) array as the bytes of an image file.

    PNG is written at its fastest level: on pictures of video the best one saves a tenth and
    takes ten times as long.
    """
    import cv2

    if suffix.lower() == ".png":
        settings = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    else:
        settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, data = cv2.imencode(suffix.lower(), array, settings)
    if not done:
        raise SinkError(
            f"cannot encode {array.shape[1]}x{array.shape[0]} as {suffix}",
            reason="CODEC_UNSUPPORTED",
        )
    return data.tobytes()


def save_picture(picture: av.VideoFrame, path: Path) -> None:
    """Write one picture as PNG or JPEG.

    Raises:
        SinkError: it cannot be written.
    """
    write_whole(path, encode_image(to_bgr(picture), path.suffix))


class ImageSink(Sink):
    """Writes every picture as an image; the number in the name is the frame's index.

    Args:
        pattern: path with one ``%d`` or ``%06d`` in its last part; the directory must exist.
        overwrite: whether images that match the pattern may be replaced.

    Raises:
        UsageError: no number in the name, or no image suffix.
    """

    any_size = True

    def __init__(self, pattern: str | Path, *, overwrite: bool = False) -> None:
        self.name = str(pattern)
        self._pattern = Path(pattern)
        self._overwrite = overwrite
        self._open = False
        suffix = self._pattern.suffix.lower()
        if not is_pattern(self.name) or suffix not in IMAGE_SUFFIXES:
            raise UsageError(
                "images need a name with one number in it, such as frame_%06d.png "
                f"({', '.join(IMAGE_SUFFIXES)}). Received: {self.name!r}"
            )

    def open(self, context: SinkContext) -> None:
        """Look whether the directory is there and free; see :meth:`Sink.open`."""
        refuse_matches(self._pattern.parent, names_of(self.name), self._overwrite)
        self._open = True

    def write(self, item: Rendered) -> None:
        """Write one image; see :meth:`Sink.write`."""
        if not self._open:
            raise SinkError(f"{self.name} is closed. Allowed: writing between open and close")
        if item.picture is None:
            raise SinkError(f"{self.name} needs pictures. Received: none", reason="BAD_INPUT")
        name = CODE.sub(lambda m: m[0] % item.frame.index, self._pattern.name)
        save_picture(item.picture, self._pattern.with_name(name))

    def close(self) -> None:
        """Stop; see :meth:`Sink.close`."""
        self._open = False


def refuse_matches(folder: Path, names: re.Pattern[str], overwrite: bool) -> None:
    """Refuse a directory that is absent or not writable, or that has files of a form.

    Raises:
        SinkError: it is absent (``NOT_FOUND``), no directory, or not writable.
        UsageError: a file's name is one of ``names``, and it may not be replaced.
    """
    if not os.path.isdir(folder):
        raise SinkError(
            f"cannot write into {folder}: it is not an existing directory. "
            "Allowed: a directory that exists",
            reason="NOT_FOUND",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"cannot write into {folder}: no permission", reason="PERMISSION_DENIED")
    if overwrite:
        return
    for entry in os.scandir(folder):
        if names.fullmatch(entry.name):
            raise UsageError(
                f"{entry.path} exists already. Allowed: another name, or -y/--overwrite",
                reason="EXISTS",
            )
