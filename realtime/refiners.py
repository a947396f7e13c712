"""What the command line asks for between network and picture, made for one stream."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

from rtseg.engines.labels import ClassTable
from rtseg.realtime.errors import UsageError
from rtseg.realtime.ignored_area import IgnoredArea, read_mask
from rtseg.realtime.palette import select_classes
from rtseg.realtime.redact import RedactOptions, Redactor
from rtseg.realtime.refine import Chain, Refiner
from rtseg.realtime.smooth import Smoother

_log = logging.getLogger("rtseg.realtime")


def check_refine_options(options: argparse.Namespace) -> None:
    """Refuse what would look like redaction and be none, or less than is promised.

    Raises:
        UsageError: an option of redaction without ``--redact``, or class ids that are guessed
            for some of the frames (``--keyframes``) with it.
    """
    if options.redact is not None:
        if options.keyframes > 1:
            raise UsageError(
                "--redact needs the network's own answer for every frame. "
                f"Allowed with it: --keyframes 1. Received: {options.keyframes}"
            )
        return
    for name in ("redact_style", "redact_margin", "redact_hold"):
        if getattr(options, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} does nothing without --redact, such as --redact person")


def build_refiner(options: argparse.Namespace, classes: ClassTable) -> Refiner | None:
    """Return a new refiner for one stream, or None where nothing is asked for.

    Every stream needs one of its own.

    Args:
        options: the parsed arguments of ``rt-seg``.
        classes: the engine's.

    Raises:
        UsageError: a class that the engine does not know, or no mask.
    """
    check_refine_options(options)
    links: list[Refiner] = []
    if options.smooth is not None:
        links.append(Smoother(options.smooth))  # first: it looks at the frame
    if options.redact is not None:
        given = {
            "style": options.redact_style,
            "margin": options.redact_margin,
            "hold_s": options.redact_hold,
        }
        wanted = {name: value for name, value in given.items() if value is not None}
        links.append(Redactor(RedactOptions(select_classes(options.redact, classes), **wanted)))
    if options.ignore_mask is not None:  # last: what it leaves out is covered all the same
        links.append(IgnoredArea(read_mask(Path(options.ignore_mask))))
    return Chain(links) if links else None


def remind_of_sound(options: argparse.Namespace, kinds: Iterable[str]) -> None:
    """Say that a redacted run keeps what else may tell who was there.

    Args:
        options: of the command.
        kinds: what may go along with the pictures: ``audio``, ``subtitle``.
    """
    said = " and ".join(sorted(set(kinds)))
    if options.redact is not None and not options.no_audio and said:
        _log.warning("--redact covers the picture alone: %s is kept; --no-audio drops it", said)
