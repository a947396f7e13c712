"""How the files of a segmented recording are called: ``seg_%03d.mp4``, ``%Y%m%d-%H%M%S.mp4``."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtseg.realtime.errors import UsageError
from rtseg.realtime.numbered import written

DEFAULT_NUMBER = "_%03d"
"""What is added to a name without a pattern."""

_CLOCK = {
    "Y": r"\d{4}", "y": r"\d\d", "m": r"\d\d", "d": r"\d\d", "j": r"\d{3}",
    "H": r"\d\d", "I": r"\d\d", "M": r"\d\d", "S": r"\d\d", "s": r"\d+",
    "p": r"\w*", "z": r"[+-]\d+", "Z": r"[+-]?\w+", "a": r"\w+", "b": r"\w+",
}  # fmt: skip
"""Codes of strftime that are fit for file names, and what they look like once written."""

_CODE = re.compile(r"%(?:(0?\d+)d|(.?))", re.DOTALL)


@dataclass(frozen=True)
class _Part:
    """A piece of the pattern, as it was typed."""

    kind: Literal["text", "number", "clock"]
    text: str

    def written(self, number: int, moment: time.struct_time) -> str:
        """Return the piece of one segment's name."""
        if self.kind == "number":
            return self.text % number
        if self.kind == "clock":
            return time.strftime(self.text, moment)
        return self.text.replace("%%", "%")

    @property
    def looks(self) -> str:
        """A regular expression for what :meth:`written` returns."""
        if self.kind == "number":
            return f"(?P<number>{written(self.text)})"
        if self.kind == "clock":
            return _CLOCK[self.text[1]]
        return re.escape(self.text.replace("%%", "%"))


class SegmentNames:
    """Makes the names of segments, and finds the files that earlier runs wrote under them.

    A pattern holds a number (``%03d``, ``%d``), the local time (strftime's codes) or both; a
    plain name gets ``_%03d`` before its suffix. ``%d`` alone is the number, as FFmpeg and
    printf have it; beside other codes of the clock, as in ``%Y-%m-%d``, it is the day.

    Args:
        path: what the user typed; patterns are allowed in its last part only.

    Raises:
        UsageError: an unknown code, two numbers, or a pattern in the name of a directory.

    >>> SegmentNames(Path("seg.mp4")).name(7)
    'seg_007.mp4'
    >>> SegmentNames(Path("%Y-%m-%d_%02d.mkv")).name(3, time.struct_time((2026,) + (1,) * 8))
    '2026-01-01_03.mkv'
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        if "%" in str(self.folder):
            raise UsageError(
                "a pattern is allowed in the name of a segment, not in its directory. "
                f"Received: {path}"
            )
        stem, self._suffix = os.path.splitext(path.name)
        parts = _parts(stem)
        if all(part.kind == "text" for part in parts):
            parts += _parts(DEFAULT_NUMBER)
        numbers = sum(part.kind == "number" for part in parts)
        if numbers > 1:
            raise UsageError(f"one number in the name of a segment. Received: {path.name}")
        self._parts = parts
        self._numbered = numbers == 1
        # a name of the clock that is taken already gets -1, -2 … before its suffix
        again = "" if self._numbered else r"(?:-\d+)?"
        looks = "".join(part.looks for part in parts)
        self._regex = re.compile(f"{looks}{again}{re.escape(self._suffix)}", re.ASCII)

    @property
    def pattern(self) -> Path:
        """The path with its pattern, also where a plain name was given."""
        return self.folder / ("".join(part.text for part in self._parts) + self._suffix)

    def name(self, number: int, moment: time.struct_time | None = None) -> str:
        """Return the file name of one segment, without its directory.

        Args:
            number: the segment's number, from 0.
            moment: local time when it begins; None for now.
        """
        moment = time.localtime() if moment is None else moment
        return "".join(part.written(number, moment) for part in self._parts) + self._suffix

    def first_number(self) -> int:
        """Return the number after the highest that is there, 0 where there is none."""
        if not self._numbered:
            return 0
        return max((self._number(path) + 1 for path in self.existing()), default=0)

    def free(self, number: int, moment: time.struct_time | None = None) -> tuple[int, Path]:
        """Return a path that is not taken, and its number, from ``number`` on.

        Where names have no number, ``-1``, ``-2`` … is put before the suffix.
        """
        path = tried = self.folder / self.name(number, moment)
        again = 0
        while os.path.lexists(tried):
            again += 1
            if self._numbered:
                tried = self.folder / self.name(number + again, moment)
            else:
                tried = path.with_name(f"{path.stem}-{again}{path.suffix}")
        return number + again, tried

    def existing(self) -> list[Path]:
        """Return the files that have such names, oldest first; links and directories not.

        Numbers are the order where there are any (a machine may start with a wrong clock),
        otherwise the time of the last change.
        """
        try:
            with os.scandir(self.folder) as entries:
                found = [
                    (entry.stat(follow_symlinks=False).st_mtime_ns, self.folder / entry.name)
                    for entry in entries
                    if self._regex.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                ]
        except OSError:
            return []
        paths = [path for _, path in sorted(found)]
        return sorted(paths, key=self._number) if self._numbered else paths

    def _number(self, path: Path) -> int:
        match = self._regex.fullmatch(path.name)
        return int(match["number"]) if match else -1


def _parts(text: str) -> list[_Part]:
    codes = list(_CODE.finditer(text))
    # %d is the number where nothing else is one and no other code makes it a date
    day = any(match[1] or match[2] not in ("d", "%") for match in codes)
    parts: list[_Part] = []
    place = 0
    for match in codes:
        if match.start() > place:
            parts.append(_Part("text", text[place : match.start()]))
        place = match.end()
        if match[2] == "%":
            parts.append(_Part("text", "%%"))
        elif match[1] or (match[2] == "d" and not day):
            parts.append(_Part("number", match[0]))
        elif match[2] in _CLOCK:
            parts.append(_Part("clock", match[0]))
        else:
            allowed = " ".join(f"%{code}" for code in _CLOCK)
            raise UsageError(
                f"no such pattern in the name of a segment: {match[0]!r}. Allowed: %03d, %d, %% "
                f"and the time's {allowed}. Received: {text!r}"
            )
    if place < len(text):
        parts.append(_Part("text", text[place:]))
    return parts
