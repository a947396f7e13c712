"""The note next to a model file that says what the file itself does not."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from rtseg.engines.errors import EngineError
from rtseg.engines.labels import CITYSCAPES, ClassTable, distinct_palette, table_of

Triple = tuple[float, float, float]

# Fields of an EngineSpec that the graph itself answers: a whole EngineSpec may be pasted.
_ANSWERED_BY_THE_FILE = {
    "calibration_sha256",
    "extra",
    "format_version",
    "input_kind",
    "output_kind",
    "precision",
    "source_sha256",
}


@dataclass(frozen=True)
class Sidecar:
    """What ``<model file>.json`` says; None where it says nothing.

    Attributes:
        network: name of the network, for people.
        height: rows of the input, in pixels, for a network that takes any size.
        width: columns of the input, in pixels.
        mean: subtracted from each channel, after the division by ``scale``; in the order
            in which the network takes the channels.
        std: each channel is divided by it after that; same order.
        scale: divisor of the 0..255 input, before mean and std.
        bgr: whether the network takes blue first.
        pad: gray (0..255) around frames that keep their shape; False where they fill the input.
        stretch: least and most that a frame's width may grow by against its height, with ``pad``.
        classes: the class table.
        use_channels: how many of the output channels are classes, from the first on.
        threshold: of a network that gives one score a pixel: above it, a pixel is the second
            class.
        input: name of the picture input.
        output: name of the segmentation output, where a network has several.
        licence: licence note of the weights.
    """

    network: str | None = None
    height: int | None = None
    width: int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    scale: float | None = None
    bgr: bool | None = None
    pad: int | Literal[False] | None = None
    stretch: tuple[float, float] | None = None
    classes: ClassTable | None = None
    use_channels: int | None = None
    threshold: float | None = None
    input: str | None = None
    output: str | None = None
    licence: str | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, or None unless both are said."""
        if self.width is None or self.height is None:
            return None
        return self.width, self.height

    @property
    def says_normalisation(self) -> bool:
        """Whether any of mean, std and scale is said."""
        return not (self.mean is None and self.std is None and self.scale is None)


def sidecar_path(model: Path) -> Path:
    """Return where the note of a model file lies: ``net.onnx`` → ``net.onnx.json``."""
    return model.with_name(model.name + ".json")


def read_sidecar(model: Path) -> Sidecar:
    """Read the note next to ``model``; an empty one where there is none.

    Fields are those of :class:`Sidecar`, all optional. ``classes`` is ``"cityscapes"``, a
    list of names, or an object with ``names`` and, if wanted, ``palette``, ``label_ids``
    and ``categories``; ``palette`` may also stand beside ``classes``.

    Raises:
        EngineError: not a JSON object, an unknown field, or a wrong value.
    """
    path = sidecar_path(model)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Sidecar()
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{path} cannot be read: {error}", reason="BAD_INPUT") from error
    try:
        return parse_sidecar(json.loads(text))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise EngineError(f"{path}: {error}", reason="BAD_INPUT") from error


def parse_sidecar(values: object) -> Sidecar:
    """Turn the note's JSON value into a :class:`Sidecar`.

    Raises:
        ValueError: not an object, an unknown field, or a wrong value.
    """
    if not isinstance(values, dict):
        raise ValueError(f"expected a JSON object. Received: {type(values).__name__}")
    known = sorted({field.name for field in fields(Sidecar)} | {"palette"})
    if unknown := sorted(set(values) - set(known) - _ANSWERED_BY_THE_FILE):
        raise ValueError(f"unknown field {', '.join(unknown)}. Allowed: {', '.join(known)}")
    std = _triple(values, "std")
    scale = _number(values, "scale")
    if scale == 0 or (std is not None and 0 in std):
        raise ValueError("scale and std must not be 0")
    return Sidecar(
        network=_text(values, "network"),
        height=_count(values, "height"),
        width=_count(values, "width"),
        mean=_triple(values, "mean"),
        std=std,
        scale=scale,
        bgr=_flag(values, "bgr"),
        pad=_pad(values),
        stretch=_stretch(values),
        classes=_classes(values),
        use_channels=_count(values, "use_channels"),
        threshold=_number(values, "threshold"),
        input=_text(values, "input"),
        output=_text(values, "output"),
        licence=_text(values, "licence"),
    )


def default_classes(count: int) -> ClassTable:
    """Return a class table for ``count`` channels: Cityscapes for 19, else ``class_0`` …"""
    if count == len(CITYSCAPES):
        return CITYSCAPES
    names = tuple(f"class_{index}" for index in range(count))
    return ClassTable(names, distinct_palette(count))


def _classes(values: dict[str, Any]) -> ClassTable | None:
    given = values.get("classes")
    if given is None:
        if values.get("palette") is not None:
            raise ValueError("palette needs classes beside it")
        return None
    if given == "cityscapes":
        return CITYSCAPES
    table = given if isinstance(given, dict) else {"names": given}
    names = table.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'classes must be "cityscapes" or a list of names. Received: {given!r}')
    palette = table.get("palette", values.get("palette"))
    found = table_of(tuple(names))
    if found is CITYSCAPES and palette is None:
        return found
    colours = found.palette if palette is None else palette
    return replace(
        found,
        palette=tuple((int(r), int(g), int(b)) for r, g, b in colours),
        label_ids=tuple(table.get("label_ids", ())),
        categories=tuple(table.get("categories", ())),
    )


def _text(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be a text. Received: {value!r}")
    return value


def _flag(values: dict[str, Any], key: str) -> bool | None:
    value = values.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false. Received: {value!r}")
    return value


def _pad(values: dict[str, Any]) -> int | Literal[False] | None:
    value = values.get("pad")
    if value is None or value is False:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise ValueError(f"pad must be a whole number from 0 to 255, or false. Received: {value!r}")
    return value


def _stretch(values: dict[str, Any]) -> tuple[float, float] | None:
    given = values.get("stretch")
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 2:
        raise ValueError(f"stretch must be a list of two numbers. Received: {given!r}")
    least, most = (_number({"stretch": value}, "stretch") for value in given)
    if least is None or most is None or not 0 <= least <= most or not most > 0:
        raise ValueError(f"stretch must be two numbers, the least first. Received: {given!r}")
    return least, most


def _number(values: dict[str, Any], key: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{key} must be a number. Received: {value!r}")
    return float(value)


def _count(values: dict[str, Any], key: str) -> int | None:
    value = values.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{key} must be a whole number from 1. Received: {value!r}")
    return value


def _triple(values: dict[str, Any], key: str) -> Triple | None:
    given = values.get(key)
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 3:
        raise ValueError(f"{key} must be a list of three numbers. Received: {given!r}")
    first, second, third = (_number({key: value}, key) for value in given)
    if first is None or second is None or third is None:
        raise ValueError(f"{key} must be a list of three numbers. Received: {given!r}")
    return first, second, third
