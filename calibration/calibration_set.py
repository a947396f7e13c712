"""Which images a network is calibrated on: chosen evenly, by a seed, and recorded.

A calibration set is images of one's own domain, no labels needed: a folder in Cityscapes'
layout (its training split), any folder of images and videos, an image or a video, or several of
them. Images are drawn in turn from each city (or folder, or video), so that no city dominates.
What cannot be read is left out, as a run leaves it out.
Validation cities of Cityscapes are never taken: what is measured must not be seen before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import find_samples
from rtseg.calibration.errors import CalibrationError
from rtseg.engines.deinterlace import Deinterlacer
from rtseg.engines.errors import EngineError
from rtseg.engines.fit import FILL, Fit
from rtseg.engines.lookup import is_file, is_there
from rtseg.engines.onnxfile import file_sha256
from rtseg.engines.preprocess import to_engine_input
from rtseg.engines.upright import Turner, upright_still

if TYPE_CHECKING:
    import av

U8 = NDArray[np.uint8]

_log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts", ".mpg", ".mjpeg")
VALIDATION_CITIES = ("frankfurt", "lindau", "munster")
MAX_VIDEO_FRAMES = 20_000
"""Frames of a video that are looked at; a longer one is read up to here."""

_FIRST_TOLERANT = 19
"""First version of PyAV that reads a file whatever letters its title has."""

_CITYSCAPES_NAME = re.compile(r"([a-z-]+)_\d{6}_\d{6}(_|$)")


@dataclass(frozen=True)
class CalibrationImage:
    """One image of a calibration set.

    Attributes:
        path: the image, or the video it is a frame of.
        name: its name in the record; independent of where the data lie.
        frame: index of the frame in a video, or None.
    """

    path: Path
    name: str
    frame: int | None = None


@dataclass(frozen=True)
class CalibrationSet:
    """A choice of images.

    Attributes:
        images: the images, sorted by name, the frames of a video together.
        seed: seed of the choice.
        available: number of images that there were to choose from.

    Example:
        >>> chosen = select_images(["cityscapes"], 512)                # doctest: +SKIP
        >>> for frame in chosen.frames(512, 512): ...                  # doctest: +SKIP
    """

    images: tuple[CalibrationImage, ...]
    seed: int
    available: int

    def __len__(self) -> int:
        return len(self.images)

    def sha256(self) -> str:
        """Hash over names, frame numbers and the content of the files, and the seed."""
        contents: dict[Path, str] = {}
        rows = []
        for image in self.images:
            if image.path not in contents:
                contents[image.path] = _sha256_of(image.path)
            rows.append([image.name, image.frame, contents[image.path]])
        return hashlib.sha256(json.dumps([rows, self.seed]).encode()).hexdigest()

    def frames(self, height: int, width: int, fit: Fit = FILL) -> Iterator[U8]:
        """Yield the images as an engine of this size gets them: uint8, H x W x 3, RGB.

        Args:
            height: rows of the engine's input, in pixels.
            width: columns of it.
            fit: its `EngineSpec.fit`.

        Raises:
            CalibrationError: ``BAD_DATA`` where an image cannot be read.
        """
        position = 0
        while position < len(self.images):
            image = self.images[position]
            if image.frame is None:
                yield _engine_input(read_frame(image.path), height, width, fit, image.path)
                position += 1
                continue
            wanted = []
            while position < len(self.images) and self.images[position].path == image.path:
                wanted.append(self.images[position].frame)
                position += 1
            found = 0
            for index, (frame, aspect) in enumerate(_decode(image.path)):
                if found < len(wanted) and index == wanted[found]:
                    own = fit.of_pixels(aspect)
                    yield _engine_input(frame, height, width, own, image.path)
                    found += 1
                if found == len(wanted):
                    break
            if found < len(wanted):
                raise CalibrationError(
                    f"{image.path} ended before frame {wanted[found]}", reason="BAD_DATA"
                )

    def subset(self, count: int) -> CalibrationSet:
        """Return ``count`` images of this set, evenly spread over it."""
        if count >= len(self.images):
            return self
        places = np.linspace(0, len(self.images) - 1, max(1, count)).round().astype(int)
        return CalibrationSet(tuple(self.images[n] for n in places), self.seed, self.available)


def select_images(
    sources: str | Path | Sequence[str | Path], count: int = 512, *, seed: int = 0
) -> CalibrationSet:
    """Choose images for calibration.

    Those that cannot be read are left out, with a warning that counts them; others come in
    their place.

    Args:
        sources: a Cityscapes root, a folder of images and videos, an image or video file, or
            several.
        count: how many images to take; all of them where there are fewer.
        seed: seed of the choice; the same files, count and seed give the same images.

    Raises:
        CalibrationError: ``NOT_FOUND``, ``NO_IMAGES``, ``BAD_DATA`` where none can be read, or
            ``BAD_OPTION`` where ``count`` is not positive.
    """
    if count < 1:
        raise CalibrationError(
            f"calibration needs at least one image. Received: {count}", reason="BAD_OPTION"
        )
    roots = [sources] if isinstance(sources, (str, Path)) else list(sources)
    groups: dict[str, list[CalibrationImage]] = defaultdict(list)
    seen: set[tuple[str, int | None]] = set()
    broken: list[CalibrationError] = []
    for root in roots:
        for group, image in _images_of(Path(root), broken):
            once = os.path.abspath(image.path), image.frame
            if once not in seen:  # a folder and one below it may both be named
                groups[group].append(image)
                seen.add(once)
    available = sum(len(images) for images in groups.values())
    if not available and not broken:
        raise CalibrationError(
            f"no image for calibration below {', '.join(str(r) for r in roots) or 'no folder'}; "
            f"allowed: {' '.join(IMAGE_SUFFIXES)}, videos, or a Cityscapes root",
            reason="NO_IMAGES",
        )
    generator = np.random.default_rng(seed)
    queues = []
    for name in sorted(groups):
        images = sorted(groups[name], key=_order)
        queues.append([images[n] for n in generator.permutation(len(images))])
    chosen: list[CalibrationImage] = []
    unread = len(broken)
    depth = 0
    while len(chosen) < count:
        # Which cities give one more in an incomplete last turn is drawn, too.
        turn = [queue for queue in queues if depth < len(queue)]
        if not turn:
            break
        left = count - len(chosen)
        if left < len(turn):
            turn = [turn[n] for n in generator.permutation(len(turn))[:left]]
        for queue in turn:
            while depth < len(queue) and (error := _unreadable(queue[depth])):
                broken.append(error)
                del queue[depth]
            chosen += queue[depth : depth + 1]
        depth += 1
    if broken:
        _leave_out(broken, bool(chosen))
    available -= len(broken) - unread
    return CalibrationSet(tuple(sorted(chosen, key=_order)), seed, available)


def _unreadable(image: CalibrationImage) -> CalibrationError | None:
    """Return what is wrong with an image; a video's frames were read when they were counted."""
    if image.frame is not None:
        return None
    try:
        _engine_input(read_frame(image.path), 2, 2, FILL, image.path)
    except CalibrationError as error:
        return error
    return None


def _leave_out(broken: Sequence[CalibrationError], others: bool) -> None:
    """Warn of what cannot be read; raise where there is nothing else."""
    first = broken[0]
    if len(broken) == 1 and not others:
        raise first
    if not others:
        raise CalibrationError(
            f"none of the {len(broken)} images can be read; the first: {first}",
            reason="BAD_DATA",
        )
    _log.warning(
        "files left out of the calibration because they cannot be read: %d; the first: %s",
        len(broken),
        first,
    )


def read_frame(path: Path) -> av.VideoFrame:
    """Decode an image file, the way a run decodes it.

    Raises:
        CalibrationError: ``BAD_DATA`` where it is no readable image.
    """
    for frame, _ in _decode(path, upright=False):
        return upright_still(frame, path.read_bytes())
    raise CalibrationError(f"{path} holds no picture", reason="BAD_DATA")


def _order(image: CalibrationImage) -> tuple[str, str, int]:
    return image.name, str(image.path), -1 if image.frame is None else image.frame


def _images_of(
    root: Path, broken: list[CalibrationError]
) -> Iterator[tuple[str, CalibrationImage]]:
    """Yield each image below a source with the group it belongs to.

    What is wrong with a video that cannot be read, below a folder, goes to ``broken``.
    """
    if not is_there(root):
        raise CalibrationError(f"no such calibration data: {root}", reason="NOT_FOUND")
    if is_file(root):
        if root.suffix.lower() in VIDEO_SUFFIXES:
            for index in range(_count_frames(root)):
                yield root.name, CalibrationImage(root, root.name, index)
        elif root.suffix.lower() in IMAGE_SUFFIXES:
            yield root.name, CalibrationImage(root, root.name)
        else:
            raise CalibrationError(
                f"{root} is neither an image ({' '.join(IMAGE_SUFFIXES)}) nor a video "
                f"({' '.join(VIDEO_SUFFIXES)})",
                reason="BAD_DATA",
            )
    elif (root / "leftImg8bit").is_dir():
        for sample in find_samples(root, "train", labels=False):
            if sample.group not in VALIDATION_CITIES:
                name = sample.image.relative_to(root).as_posix()
                yield sample.group, CalibrationImage(sample.image, name)
    else:
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                name = path.relative_to(root).as_posix()
                try:
                    count = _count_frames(path)
                except CalibrationError as error:
                    broken.append(error)
                    continue
                for index in range(count):
                    yield name, CalibrationImage(path, name, index)
            elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                match = _CITYSCAPES_NAME.match(path.stem)
                if match and match[1] in VALIDATION_CITIES:
                    continue
                name = path.relative_to(root).as_posix()
                group = match[1] if match else path.parent.relative_to(root).as_posix()
                yield group, CalibrationImage(path, name)


def _count_frames(path: Path) -> int:
    count = 0
    for count, _ in enumerate(_decode(path), start=1):
        if count == MAX_VIDEO_FRAMES:
            break
    return count


def _decode(path: Path, upright: bool = True) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield a file's pictures, each with the width of its pixels over their height."""
    import av

    more: dict[str, Any] = {}
    if int(av.__version__.partition(".")[0]) < _FIRST_TOLERANT:
        more["metadata_errors"] = "replace"  # a title that is not UTF-8 is no reason
    try:
        # Not the bare path: FFmpeg takes 12:30.mp4 for an address.
        with av.open(f"file:{path}", **more) as container:
            if not container.streams.video:
                raise CalibrationError(f"{path} holds no picture", reason="BAD_DATA")
            video = container.streams.video[0]
            turner, fields = Turner(), Deinterlacer(str(path))
            for frame in container.decode(video):
                aspect = float(video.sample_aspect_ratio or 1)
                if upright:
                    frame = turner.upright(fields.progressive(frame))
                    aspect = 1 / aspect if turner.transposes else aspect
                yield frame, aspect
    except (av.FFmpegError, OSError) as error:
        raise CalibrationError(
            f"{path} cannot be read as an image or video: {error.strerror or error}",
            reason="BAD_DATA",
        ) from error


def _engine_input(frame: av.VideoFrame, height: int, width: int, fit: Fit, path: Path) -> U8:
    try:
        return to_engine_input(frame, height, width, fit=fit)
    except EngineError as error:
        raise CalibrationError(f"{path}: {error}", reason="BAD_DATA") from error


def _sha256_of(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise CalibrationError(
            f"cannot read {path}: {error.strerror or error}", reason="NOT_FOUND"
        ) from error
