"""What the user says about classes: their colours, and which of them are shown."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.realtime.errors import UsageError

Colour = tuple[int, int, int]

_ROW = re.compile(r"(-?\d+)[\s,;]+(-?\d+)[\s,;]+(-?\d+)[\s,;]+(\S.*)")
_HEADER = re.compile(r"(GIMP Palette|Name:.*|Columns:.*|r(ed)?[\s,;]+g(reen)?[\s,;].*)", re.I)
_FORMS = 'JSON {"road": [128, 64, 128]} or {"road": "#804080"}, or lines of "128 64 128 road"'


def load_palette(text: str, classes: ClassTable) -> ClassTable:
    """Return ``classes`` with the colours of a palette; classes it leaves out keep theirs.

    Args:
        text: ``cityscapes``, or a file: JSON (class name → ``[r, g, b]`` or ``#rrggbb``),
            CSV or GIMP palette (``r g b name`` on each line, ``#`` starts a comment).
        classes: the table of the engine in use.

    Raises:
        UsageError: no such file (``NOT_FOUND``), a line that is no colour, a channel outside
            0..255, or a name that is no class.

    Example:
        >>> from rtseg.engines.labels import CITYSCAPES
        >>> load_palette("cityscapes", CITYSCAPES) == CITYSCAPES
        True
    """
    if text.strip().lower() == "cityscapes":
        known = dict(zip(CITYSCAPES.names, CITYSCAPES.palette, strict=True))
        return _recolour(classes, {n: known[n] for n in classes.names if n in known})
    path = Path(text).expanduser()
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(
            f"no palette file {text!r}. Allowed: cityscapes, or a file with {_FORMS}",
            reason="NOT_FOUND",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"the palette {text!r} cannot be read: {cause}. Allowed: {_FORMS}"
        ) from error
    is_json = content.lstrip().startswith(("{", "["))
    rows = _json_rows(content, text) if is_json else _line_rows(content, text)
    colours: dict[str, Colour] = {}
    for place, name, colour in rows:
        colours[classes.names[_class_index(name, classes, f"{place}: ")]] = colour
    if not colours:
        raise UsageError(f"the palette {text!r} has no colour in it. Allowed: {_FORMS}")
    return _recolour(classes, colours)


def select_classes(text: str, classes: ClassTable) -> tuple[int, ...]:
    """Return the class ids that a comma-separated list of names or ids means, ascending.

    Case, spaces, ``_`` and ``-`` in names do not matter. A name may have commas itself, as
    ADE20K's ``door, double door``: of what could be meant the longest name counts.

    Raises:
        UsageError: the list is empty, or a name is no class (the message suggests one).

    Example:
        >>> from rtseg.engines.labels import CITYSCAPES
        >>> select_classes("person, Traffic-Light, 0", CITYSCAPES)
        (0, 6, 11)
    """
    parts = [part for part in (part.strip() for part in text.split(",")) if part]
    if not parts:
        raise UsageError(
            f"expected class names with commas between them. Received: {text!r}. "
            f"Allowed: {', '.join(classes.names)}"
        )
    longest = 1 + max(name.count(",") for name in classes.names)
    chosen: set[int] = set()
    while parts:
        for count in range(min(longest, len(parts)), 0, -1):
            index = _by_name(parts[:count], classes)
            if index is not None:
                break
        else:
            count, index = 1, _by_id(parts[0], classes)
        chosen.add(index)
        del parts[:count]
    return tuple(sorted(chosen))


def _by_name(parts: list[str], classes: ClassTable) -> int | None:
    """Return the class whose name is made of these parts with commas between them."""
    wanted = [_plain(part) for part in parts]
    for index, name in enumerate(classes.names):
        if [_plain(part) for part in name.split(",")] == wanted:
            return index
    return None


def _by_id(part: str, classes: ClassTable) -> int:
    """Return a class id that was typed as a number."""
    if part.isascii() and part.isdecimal():
        if len(part) < 5 and int(part) < len(classes):
            return int(part)
        raise UsageError(
            f"no class has the id {part[:20]}. Allowed: 0 to {len(classes) - 1}, or names: "
            f"{', '.join(classes.names)}"
        )
    return _class_index(part, classes)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _class_index(name: str, classes: ClassTable, place: str = "") -> int:
    try:
        return classes.index(name)
    except KeyError as error:
        near = difflib.get_close_matches(
            name.strip().lower().replace("_", " "), classes.names, n=1, cutoff=0.5
        )
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UsageError(
            f"{place}unknown class {name.strip()!r}{hint} Allowed: {', '.join(classes.names)}"
        ) from error


def _recolour(classes: ClassTable, colours: dict[str, Colour]) -> ClassTable:
    palette = tuple(
        colours.get(name, old) for name, old in zip(classes.names, classes.palette, strict=True)
    )
    return dataclasses.replace(classes, palette=palette)


def _json_rows(content: str, path: str) -> Iterator[tuple[str, str, Colour]]:
    try:
        entries: Any = json.loads(content)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}). Allowed: {_FORMS}"
        ) from error
    if not isinstance(entries, dict):
        raise UsageError(f"{path}: expected an object. Received: a list. Allowed: {_FORMS}")
    for name, value in entries.items():
        place = f"{path}, line {_line_of(content, name)}"
        if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            yield place, name, (int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16))
        elif isinstance(value, list) and len(value) == 3 and all(type(v) is int for v in value):
            yield place, name, _colour(place, *value)
        else:
            raise UsageError(
                f"{place}: the colour of {name!r} must be [r, g, b] of 0..255 or #rrggbb. "
                f"Received: {json.dumps(value)}"
            )


def _line_of(content: str, name: str) -> int:
    position = content.find(json.dumps(name))
    return content.count("\n", 0, max(position, 0)) + 1


def _line_rows(content: str, path: str) -> Iterator[tuple[str, str, Colour]]:
    for number, raw in enumerate(content.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#") or _HEADER.fullmatch(line):
            continue
        place = f"{path}, line {number}"
        row = _ROW.fullmatch(line)
        if row is None:
            raise UsageError(f'{place}: expected "r g b name". Received: {line[:60]!r}')
        red, green, blue, name = row.groups()
        yield place, name.strip().strip('"'), _colour(place, int(red), int(green), int(blue))


def _colour(place: str, red: int, green: int, blue: int) -> Colour:
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise UsageError(f"{place}: a channel is 0..255. Received: {red} {green} {blue}")
    return red, green, blue
