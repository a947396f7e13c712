"""Which pictures a folder, a glob or a numbered pattern stands for."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from rtseg.engines.lookup import is_file, is_folder
from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.numbered import CODE, written
from rtseg.realtime.sources.naming import shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
VIDEO_SUFFIXES = (
    *(".3gp", ".264", ".265", ".asf", ".avi", ".dav", ".dv", ".flv", ".h264", ".h265", ".hevc"),
    *(".insv", ".ivf", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
_FEW = 3
_ADVICE = "Videos are run one after the other by rt-seg --batch 'DIR/*.mp4' 'OUT/{stem}_seg.mp4'"


def find_images(place: str) -> list[Path]:
    """Return the pictures that a place stands for; see :func:`look_for_images`."""
    return look_for_images(place)[0]


def look_for_images(place: str) -> tuple[list[Path], list[Path]]:
    """Return the pictures that a folder, glob, numbered pattern or path stands for, in order.

    And the videos among them, which are left out.

    Raises:
        SourceError: ``NOT_FOUND`` or ``PERMISSION_DENIED``.
        UsageError: the pattern has more than one number.
    """
    path = Path(place)
    allowed = ", ".join(SUFFIXES)
    try:
        folder = is_folder(path)
        if is_file(path):
            return [path], []
        if folder:
            missing = f"no pictures in this folder (allowed: {allowed})"
        elif CODE.search(path.name):
            missing = "no pictures"
        else:
            missing = f"no pictures match (allowed: {allowed})"
        matching = _matching(place)
        videos_there = list(filter(is_video, matching))
        if CODE.search(path.name) and not folder:
            found = [file for file in matching if not is_video(file)]  # of any suffix
        else:
            found = sorted(filter(_is_image, matching), key=lambda file: natural_key(str(file)))
    except PermissionError:
        raise SourceError(
            f"{shown(place)}: no permission to read it", reason="PERMISSION_DENIED"
        ) from None
    except (OSError, ValueError, re.error) as error:
        raise SourceError(f"{shown(place)}: {error}", reason="NOT_FOUND") from None
    if not found:
        videos = _named(videos_there)
        if videos:
            missing = f"{missing}, but {videos}. {_ADVICE}"
        raise SourceError(f"{shown(place)}: {missing}", reason="NOT_FOUND")
    return found, videos_there


def say_left_out(videos: list[Path]) -> str:
    """Return what to say of videos among pictures, at least one."""
    return f"left out: {_named(videos)}. {_ADVICE}"


def _matching(place: str) -> list[Path]:
    """Return every file that a folder, pattern or glob stands for; numbered ones in order."""
    path = Path(place)
    if path.is_dir():
        return list(path.iterdir())
    if CODE.search(path.name):
        return _numbered(path)
    return [Path(file) for file in glob.glob(place, recursive=True)]


def _named(videos: list[Path]) -> str:
    """Return how many videos there are and what the first are called, nothing for none."""
    if not videos:
        return ""
    names = sorted((shown(file.name) for file in videos), key=natural_key)
    more = ", …" if len(names) > _FEW else ""
    count = "1 video" if len(names) == 1 else f"{len(names)} videos"
    return f"{count} ({', '.join(names[:_FEW])}{more})"


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers inside names by value: ``f2`` before ``f10``."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(p), p) if i % 2 else (1, 0, p) for i, p in enumerate(parts)]


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not file.is_dir()


def is_video(file: Path) -> bool:
    """Say whether a file is a video by its name; hidden ones are none."""
    hidden = file.name.startswith(".")
    return file.suffix.lower() in VIDEO_SUFFIXES and not hidden and file.is_file()


def _numbered(pattern: Path) -> list[Path]:
    pieces = CODE.split(pattern.name)
    if len(pieces) != 4:
        raise UsageError(
            f"a pattern has one number, such as frame_%06d.png. Received: {shown(str(pattern))}"
        )
    before, zero, digits, after = pieces
    least = int(digits or 1)
    name = re.compile(re.escape(before) + f"({written(f'%{zero}{digits}d')})" + re.escape(after))
    found = []
    if pattern.parent.is_dir():
        for file in pattern.parent.iterdir():
            match = name.fullmatch(file.name)
            if match is None:
                continue
            number = int(match[1])
            if match[1] == (f"{number:0{least}d}" if zero else f"{number:{least}d}"):
                found.append((number, file))
    if not found:
        raise SourceError(f"{shown(str(pattern))}: no file has such a name", reason="NOT_FOUND")
    return [file for _, file in sorted(found)]
