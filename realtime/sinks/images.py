"""Numbered pictures: ``frame_%06d.png`` or ``.jpg``; and one alone."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.frame import U8, Frame, Rendered
from rtseg.realtime.numbered import CODE, is_pattern, names_of
from rtseg.realtime.sinks.outfile import refuse_existing, refuse_input, write_whole
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


class _PictureFiles(Sink):
    """Writes pictures as images; where each goes is left open."""

    any_size = True
    _open = False

    @abstractmethod
    def _path_of(self, frame: Frame) -> Path:
        """Return where the picture of a frame goes."""

    def write(self, item: Rendered) -> None:
        """Write the image; see :meth:`Sink.write`."""
        if not self._open:
            raise SinkError(f"{self.name} is closed. Allowed: writing between open and close")
        if item.picture is None:
            raise SinkError(f"{self.name} needs pictures. Received: none", reason="BAD_INPUT")
        save_picture(item.picture, self._path_of(item.frame))

    def close(self) -> None:
        """Stop; see :meth:`Sink.close`."""
        self._open = False


class ImageSink(_PictureFiles):
    """Writes every picture as an image; the number in the name is the frame's index.

    Args:
        pattern: path with one ``%d`` or ``%06d`` in its last part; the directory must exist.
        overwrite: whether images that match the pattern may be replaced.

    Raises:
        UsageError: no number in the name, or no image suffix.
    """

    def __init__(self, pattern: str | Path, *, overwrite: bool = False) -> None:
        self.name = str(pattern)
        self._pattern = Path(pattern)
        self._overwrite = overwrite
        suffix = self._pattern.suffix.lower()
        if not is_pattern(self.name) or suffix not in IMAGE_SUFFIXES:
            raise UsageError(
                "images need a name with one number in it, such as frame_%06d.png "
                f"({', '.join(IMAGE_SUFFIXES)}). Received: {self.name!r}"
            )

    def open(self, context: SinkContext) -> None:
        """Look whether the directory is there and free; see :meth:`Sink.open`."""
        refuse_matches(self._pattern.parent, names_of(self.name).fullmatch, self._overwrite)
        self._open = True

    def _path_of(self, frame: Frame) -> Path:
        name = CODE.sub(lambda m: m[0] % frame.index, self._pattern.name)
        return self._pattern.with_name(name)


class PictureSink(_PictureFiles):
    """Writes the picture of a source that is a single one.

    Args:
        path: the file, ending in ``.png``, ``.jpg`` or ``.jpeg``.
        overwrite: whether an existing file may be replaced.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.name = str(path)
        self.path = Path(path)
        self._overwrite = overwrite

    def open(self, context: SinkContext) -> None:
        """Look whether there is one picture to come, and room for it; see :meth:`Sink.open`."""
        source = context.source
        if source.frames != 1 or len(source.pictures) != 1:
            raise needs_number(self.name)
        refuse_input(self.path, source.pictures[0])
        refuse_existing(self.path, self._overwrite)
        refuse_folder(self.path.parent)
        self._open = True

    def _path_of(self, frame: Frame) -> Path:
        return self.path


def needs_number(name: str) -> UsageError:
    """Return the error for images of many frames under one name."""
    path = Path(name)
    numbered = path.with_name(f"{path.stem}_%06d{path.suffix}")
    return UsageError(
        f"images need a name with one number in it, such as {numbered}; only a single picture "
        f"goes into a single one. Received: {name!r}"
    )


def refuse_folder(folder: Path) -> None:
    """Refuse a directory that is absent or not writable.

    Raises:
        SinkError: it is absent (``NOT_FOUND``), no directory, or not writable.
    """
    if not os.path.isdir(folder):
        raise SinkError(
            f"cannot write into {folder}: it is not an existing directory. "
            "Allowed: a directory that exists",
            reason="NOT_FOUND",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"cannot write into {folder}: no permission", reason="PERMISSION_DENIED")


def refuse_matches(folder: Path, matches: Callable[[str], object], overwrite: bool) -> None:
    """Refuse a directory that is absent or not writable, or that has files that are to come.

    Raises:
        SinkError: see :func:`refuse_folder`.
        UsageError: a file's name is one that ``matches``, and it may not be replaced.
    """
    refuse_folder(folder)
    if overwrite:
        return
    for entry in os.scandir(folder):
        if matches(entry.name):
            raise UsageError(
                f"{entry.path} exists already. Allowed: another name, or -y/--overwrite",
                reason="EXISTS",
            )
