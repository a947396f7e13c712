"""The video files that a folder, a pattern or a list stands for, for one run after the other."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rtseg.engines.lookup import is_file, is_folder
from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.sources.find_images import is_video, natural_key
from rtseg.realtime.sources.lists import TypedSource
from rtseg.realtime.sources.naming import shown
from rtseg.realtime.sources.several import NamedSource, name_sources, typed_sources


def find_clips(texts: Sequence[str]) -> list[NamedSource]:
    """Return every video file that was named, each once, in order.

    A folder stands for the video files in it, a pattern for those that match (``**`` goes into
    folders), both in natural order; a list (``.txt``, ``.streams``) for what its lines name. A
    file that was named itself may have any suffix.

    Raises:
        SourceError: ``NOT_FOUND`` or ``PERMISSION_DENIED``.
        UsageError: something else than files was named.
    """
    found: dict[Path, TypedSource] = {}
    for typed in typed_sources(texts):
        for path in _clips(typed.text):
            found.setdefault(path.resolve(), replace(typed, text=str(path)))
    return name_sources(list(found.values()))


def _clips(text: str) -> list[Path]:
    path = Path(text)
    try:
        if is_file(path):
            return [path]
        if is_folder(path):
            clips = [file for file in path.iterdir() if is_video(file)]
        elif glob.has_magic(text):
            clips = [
                file for name in glob.glob(text, recursive=True) if is_video(file := Path(name))
            ]
        else:
            raise UsageError(
                "--batch takes video files: a path, a folder, a pattern such as 'drives/*.mp4', or "
                f"a list of them. Received: {shown(text)}"
            )
    except PermissionError:
        raise SourceError(
            f"{shown(text)}: no permission to read it", reason="PERMISSION_DENIED"
        ) from None
    except (OSError, ValueError) as error:  # too long, or a null character in it
        raise SourceError(f"{shown(text)}: {error}", reason="NOT_FOUND") from None
    if not clips:
        raise SourceError(f"{shown(text)}: no video file there", reason="NOT_FOUND")
    return sorted(clips, key=lambda file: natural_key(str(file)))
