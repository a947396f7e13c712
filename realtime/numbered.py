"""Names with a number in them: ``frame_%06d.png``, as FFmpeg and printf have them."""

from __future__ import annotations

import re
from pathlib import Path

CODE = re.compile(r"%(0?)([0-9]*)d")
"""A number in a pattern; the groups are the zero and the least width."""


def written(code: str) -> str:
    """Return a regular expression for what a code like ``%06d`` writes.

    Blanks fill the width where the code has one without a zero before it.
    """
    return " *[0-9]+" if re.fullmatch(r"%[1-9][0-9]*d", code) else "[0-9]+"


def is_pattern(text: str) -> bool:
    """Return whether a path has one ``%06d`` (or ``%d``) in its last part."""
    name = Path(text).name
    return len(CODE.findall(name)) == 1 and name.count("%") == 1


def names_of(pattern: str) -> re.Pattern[str]:
    """Return what matches the names that a pattern's last part stands for.

    >>> bool(names_of("frame_%3d.png").fullmatch("frame_  7.png"))
    True
    """
    pieces = re.split(r"(%0?[0-9]*d)", Path(pattern).name)  # texts and codes in turn
    looks = (
        written(piece) if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)
    )
    return re.compile("".join(looks))
