"""Options of a dataclass that was read from JSON: their types and values are checked."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

from rtseg.models.errors import ModelError


def refuse(what: str, allowed: str) -> ModelError:
    """Return the error for a value that is not allowed."""
    return ModelError(f"{what}; {allowed}", reason="BAD_CONFIG")


#: What is allowed for an option of each type; others hold objects.
WORDS = {
    "int": "a whole number",
    "int | None": "a whole number or null",
    "float": "a number",
    "float | None": "a number or null",
    "bool": "true or false",
    "str": "a text",
    "int | tuple[int, int]": "a whole number, or two of them: width and height",
    "tuple[str, ...]": "a list of texts",
    "tuple[float, float]": "two numbers above 0, the smaller first",
}


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of the type ``hint`` of an option; numbers must be finite."""
    parts = get_args(hint)
    if get_origin(hint) is tuple:
        kinds = parts[:1] * len(value) if isinstance(value, tuple) and ... in parts else parts
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds)
            and all(_fits(one, kind) for one, kind in zip(value, kinds, strict=True))
        )
    if parts:
        return any(_fits(value, part) for part in parts)
    if hint in (int, float):
        wanted = (int, float) if hint is float else int
        number = isinstance(value, wanted) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max
    return isinstance(value, hint)


def check_types(config: Any) -> None:
    """Refuse the first option whose value is not of its type."""
    hints = get_type_hints(type(config))
    for option in dataclasses.fields(config):
        value = getattr(config, option.name)
        if not _fits(value, hints[option.name]):
            allowed = WORDS.get(str(option.type), "an object, or a list of them")
            raise refuse(f"{option.name} {value!r}", f"allowed: {allowed}")


def check(config: Any, names: str, is_allowed: Callable[[Any], bool], allowed: str) -> None:
    """Refuse the first of these options whose value is not allowed."""
    for name in names.split():
        value = getattr(config, name)
        if not is_allowed(value):
            raise refuse(f"{name} {value}", f"allowed: {allowed}")
