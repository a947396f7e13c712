"""Names with a number in them: ``frame_%06d.png``, as FFmpeg and printf have them."""

from __future__ import annotations

import re
from pathlib import Path

CODE = re.compile(r"%(0?)([0-9]*)d")
"""A number in a pattern; the groups are the zero and the least width."""

WRITTEN = r" *[0-9]+"
"""A regular expression for a number once written; without the zero, blanks fill its width."""


def is_pattern(text: str) -> bool:
    """Return whether a path has one ``%06d`` (or ``%d``) in its last part."""
    name = Path(text).name
    return len(CODE.findall(name)) == 1 and name.count("%") == 1


def names_of(pattern: str) -> re.Pattern[str]:
    """Return what matches the names that a pattern's last part stands for.

    >>> bool(names_of("frame_%3d.png").fullmatch("frame_  7.png"))
    True
    """
    pieces = (re.escape(piece) for piece in re.split(r"%0?[0-9]*d", Path(pattern).name))
    return re.compile(WRITTEN.join(pieces))
