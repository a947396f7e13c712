"""Lists of sources: text files with one a line, and what a line asks of its source alone."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.parser import Parser
from rtseg.realtime.source_arguments import add_picture_options
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.options import SourceOptions

LIST_SUFFIXES = (".txt", ".streams")
MOST_BYTES = 1_000_000

_OPTIONS = re.compile(r"\s+(--[a-z].*)")


@dataclass(frozen=True)
class TypedSource:
    """A source as it was typed.

    Attributes:
        text: as after ``--source``; may hold a password.
        name: what the user calls it; empty where nothing was said.
        own: fields of ``SourceOptions`` that are this source's alone.
    """

    text: str
    name: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)


def is_list(text: str) -> bool:
    """Return whether what was typed names a list."""
    return "://" not in text and Path(text).suffix.lower() in LIST_SUFFIXES


def read_list(text: str) -> list[TypedSource]:
    """Return the sources of a list.

    A line is what one would type after ``--source`` (paths are relative to the working
    directory), and may go on with options that hold for this source instead of the command's:
    ``rtsp://rear/live --name rear --rotate 180``. Blank lines and lines that begin with ``#``
    are skipped.

    Raises:
        UsageError: a list that is empty, too long or no text, or a line that makes no sense.
        SourceError: it is not there or cannot be read.
    """
    found: list[TypedSource] = []
    for number, line in enumerate(_words(text).splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            try:
                found.append(_of_line(line))
            except UsageError as error:
                raise UsageError(f"{shown(text)}, line {number}: {error}") from None
    if not found:
        raise UsageError(f"{shown(text)}: the list names no source. Allowed: one a line")
    inner = next((each.text for each in found if is_list(each.text)), None)
    if inner is not None:
        raise UsageError(f"{shown(text)}: a list within a list. Received: {shown(inner)}")
    return found


def _words(text: str) -> str:
    try:
        with open(text, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise SourceError(f"{shown(text)}: there is no such list", reason="NOT_FOUND") from None
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise SourceError(
            f"{shown(text)}: the list cannot be read: {why}", reason="PERMISSION_DENIED"
        ) from None
    try:
        words = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        words = "\0"
    if len(data) > MOST_BYTES or "\0" in words:
        raise UsageError(
            f"{shown(text)}: no list of sources. Allowed: a text file (UTF-8), one source a line"
        )
    return words


def _of_line(line: str) -> TypedSource:
    found = _OPTIONS.search(line)
    if found is None or os.path.lexists(line):
        return TypedSource(line)
    try:
        words = shlex.split(found[1])
    except ValueError as error:
        raise UsageError(f"{error}. Received: {shown(found[1])}") from None
    parser = _parser()
    try:
        own = vars(parser.parse(words))
    except UsageError as error:
        allowed = ", ".join(name for action in parser._actions for name in action.option_strings)
        raise UsageError(f"{str(error).partition(' See ')[0]} Allowed: {allowed}") from None
    name = own.pop("name", "")
    if name and name != stem_of(name, ""):
        raise UsageError(
            f"--name takes letters, digits, -, _ and inner dots, at most 80. Received: {name!r}"
        )
    SourceOptions(**own)  # refuses what makes no sense
    return TypedSource(line[: found.start()], name, own)


@cache
def _parser() -> Parser:
    """Return a parser of a line's options, which leaves out what was not typed."""
    parser = Parser(prog="rt-seg", add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group()
    group.add_argument("--name")
    add_picture_options(group)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return parser
