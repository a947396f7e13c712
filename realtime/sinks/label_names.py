"""How images of class ids are called: after the picture, or with the number of the frame."""

from __future__ import annotations

import os
from collections import Counter

from rtseg.realtime.frame import Frame, SourceInfo
from rtseg.realtime.numbered import names_of

_LONGEST = 255
"""Bytes of a file's name on the usual file systems."""


class LabelNames:
    """Makes the names of one source's images, each of which is given once.

    ``<stem>_000123_labelTrainIds.png``; those of pictures ``<picture's stem>_labelTrainIds.png``
    where no other picture of the source has that stem, the first time that the picture comes.

    Args:
        info: the source.
        kind: what is before the suffix, such as ``labelTrainIds``.
        several: whether other sources write beside it: names of pictures then begin with the
            source's stem, too.
    """

    def __init__(self, info: SourceInfo, kind: str, *, several: bool = False) -> None:
        self._stem = info.stem
        self._end = f"_{kind}.png"
        before = f"{info.stem}_" if several else ""
        names = [f"{before}{path.stem}{self._end}" for path in info.pictures]
        seen = Counter(map(str.casefold, names))
        self._free = {
            path: name
            for path, name in zip(info.pictures, names, strict=True)
            if seen[name.casefold()] == 1 and len(os.fsencode(name)) <= _LONGEST
        }
        self._own = set(self._free.values())
        self._taken = set(map(str.casefold, self._own))
        numbered = info.frames is None or info.frames > len(self._own)
        self._numbered = []
        if numbered:
            forms = ("%06d", "%06d_%d") if info.pictures else ("%06d",)
            self._numbered = [names_of(f"{self._stem}_{form}{self._end}") for form in forms]

    def matches(self, name: str) -> bool:
        """Return whether a file's name may be one of those to come."""
        return name in self._own or any(shape.fullmatch(name) for shape in self._numbered)

    def next(self, frame: Frame) -> str:
        """Return the name for a frame's image."""
        name = None if frame.path is None else self._free.pop(frame.path, None)
        if name is not None:
            return name
        stem, again = f"{self._stem}_{frame.index:06d}", 1
        name = stem + self._end
        while name.casefold() in self._taken:
            again += 1
            name = f"{stem}_{again}{self._end}"
        return name
