"""MP4 and MOV files whose recording was cut short, told by their boxes (ISO/IEC 14496-12)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_FIRST = (b"ftyp", b"mdat", b"wide", b"free", b"skip", b"pnot")
_MOST_BOXES = 10_000


def lacks_index(path: Path) -> bool:
    """Say whether a file has an MP4's data, but not (all of) the index, which comes last.

    The index, the box ``moov``, is written when a recording ends; without it nobody knows
    where in the data a picture begins.
    """
    try:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            return _lacks_index(file, length)
    except OSError:
        return False


def _lacks_index(file: BinaryIO, length: int) -> bool:
    at, has_data = 0, False
    for number in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if len(head) < 8:
            break
        if number == 0 and kind not in _FIRST:
            return False
        if size == 1:  # the size follows, in eight bytes
            size = int.from_bytes(head[8:16], "big")
        end = length if size == 0 else at + size
        if kind == b"moov":
            return end > length
        has_data |= kind == b"mdat"
        if end <= at or end >= length:
            break
        at = end
    return has_data
