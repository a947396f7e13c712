"""Outputs that would write over each other, or over what is read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rtseg.realtime.errors import UsageError
from rtseg.realtime.fileurl import plain_path
from rtseg.realtime.numbered import is_pattern, names_of
from rtseg.realtime.sinks.network import is_network, shown_address
from rtseg.realtime.web.address import is_web


def refuse_clashes(
    outputs: Iterable[str], inputs: Iterable[Path] = (), pictures: Iterable[Path] = ()
) -> None:
    """Refuse two outputs into one place, and an output over what is read.

    Files are compared as the file system sees them, through links and ``..``.

    Args:
        outputs: as typed.
        inputs: files that are read.
        pictures: images that are read; compared with patterns like ``frame_%06d.png``.

    Raises:
        UsageError: there is a clash (``SAME_FILE``).
    """
    from rtseg.realtime.sinks.outfile import refuse_input

    taken: dict[str, str] = {}
    inputs, pictures = tuple(inputs), tuple(pictures)
    for text in outputs:
        plain = plain_path(text)
        own = plain in ("window", "null", "-") or is_web(plain) or is_network(plain)
        place = plain if own else os.path.realpath(plain)
        if place in taken and plain != "null":
            raise UsageError(
                f"two outputs go to the same place: {shown_address(taken[place])} "
                f"and {shown_address(text)}. Allowed: each place once",
                reason="SAME_FILE",
            )
        taken[place] = text
        if own or os.path.isdir(plain):
            continue
        for file in inputs:
            refuse_input(Path(plain), file)
        if is_pattern(plain):
            _refuse_pictures(Path(plain), pictures)


def _refuse_pictures(pattern: Path, pictures: Iterable[Path]) -> None:
    shape = names_of(pattern.name)
    folder = os.path.realpath(pattern.parent)
    for picture in pictures:
        there = os.path.realpath(picture)
        if os.path.dirname(there) == folder and shape.fullmatch(os.path.basename(there)):
            raise UsageError(
                f"the output {pattern} may write over {picture}, which is read. "
                "Allowed: another name or folder",
                reason="SAME_FILE",
            )
