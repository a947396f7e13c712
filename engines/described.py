"""What a foreign network file says of itself, in the ways that other tools write it down.

- Ultralytics' exports (ONNX): ``author``, ``task``, ``names``, ``license`` among the metadata.
  Its networks take red first, 0..1, and frames that keep their shape.
- OpenVINO's Model API, which Geti, OTX and Ultralytics' OpenVINO exports follow: ``model_info``
  with ``labels``, ``mean_values``, ``scale_values``, ``reverse_input_channels``, ``resize_type``
  and ``pad_value``, in an IR's ``rt_info`` or among an ONNX file's metadata (``model_info
  labels``). Mean and scale are of 0..255, in the order of the network's channels.

A note beside the file says more than the file: see :func:`fill_note`. What cannot be read here is
as if it were not there, as nobody wrote it for us.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from rtseg.engines.labels import ClassTable, table_of
from rtseg.engines.ports import ImageInput, SegmentationOutput
from rtseg.engines.sidecar import Sidecar, Triple

_MODEL_INFO = "model_info"
_MODEL_INFO_KEYS = (
    "labels",
    "mean_values",
    "scale_values",
    "reverse_input_channels",
    "embedded_processing",
    "resize_type",
    "pad_value",
)
_ULTRALYTICS_PAD = 114
_NORMALISATION = ("mean", "std", "scale")


def described_by_onnx(model: Any) -> Sidecar:
    """Return what the metadata of an ``onnx.ModelProto`` says."""
    said = {entry.key: entry.value for entry in model.metadata_props}
    if said.get("author") == "Ultralytics" and said.get("task") == "semantic":
        return _of_ultralytics(said)
    return _of_model_api(
        {
            key: said[f"{_MODEL_INFO} {key}"]
            for key in _MODEL_INFO_KEYS
            if f"{_MODEL_INFO} {key}" in said
        }
    )


def described_by_ir(model: Any) -> Sidecar:
    """Return what the ``rt_info`` of an ``openvino.Model`` says."""
    said = {}
    for key in _MODEL_INFO_KEYS:
        if model.has_rt_info([_MODEL_INFO, key]):
            said[key] = model.get_rt_info([_MODEL_INFO, key]).astype(str)
    return _of_model_api(said)


def fill_note(
    note: Sidecar, said: Sidecar, image: ImageInput, output: SegmentationOutput
) -> Sidecar:
    """Return a note with what the file says where the note says nothing.

    Left out are classes that do not fit the output, and a normalisation where the network takes
    uint8 or the note has a part of one.
    """
    drop: set[str] = set()
    if output.kind == "logits" and said.classes and len(said.classes) != max(2, output.channels):
        drop.add("classes")
    if note.use_channels is not None:
        drop.add("classes")
    if note.says_normalisation or image.dtype == "uint8":
        drop.update(_NORMALISATION)
    missing = {
        field.name: getattr(said, field.name)
        for field in fields(Sidecar)
        if getattr(note, field.name) is None and field.name not in drop
    }
    return replace(note, **missing)


def _of_ultralytics(said: Mapping[str, str]) -> Sidecar:
    names = _literal(said.get("names", ""))
    classes = None
    if isinstance(names, dict):
        classes = _classes([str(names[key]) for key in sorted(names, key=_number_first)])
    return Sidecar(
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        scale=255.0,
        bgr=False,
        pad=_ULTRALYTICS_PAD,
        classes=classes,
        licence=said.get("license"),
    )


def _of_model_api(said: Mapping[str, str]) -> Sidecar:
    mean = _triple(said.get("mean_values", ""))
    std = _triple(said.get("scale_values", ""))
    embedded = _is_yes(said.get("embedded_processing", ""))
    tells = bool(mean or std or embedded)
    if embedded or (std is not None and 0 in std):
        mean = std = None
    return Sidecar(
        mean=(mean or (0.0, 0.0, 0.0)) if tells else None,
        std=(std or (1.0, 1.0, 1.0)) if tells else None,
        scale=1.0 if tells else None,
        # "NO" is written by default, also for networks that take red first.
        bgr=False if _is_yes(said.get("reverse_input_channels", "")) else None,
        pad=_pad(said),
        classes=_classes(said.get("labels", "").split()),
    )


def _classes(names: list[str]) -> ClassTable | None:
    """Return a table of named classes; None where the names are numbers, or no names."""
    if not names or all(name.isdigit() for name in names):
        return None
    if len(names) == 1:  # of two classes, the one that is not everything else
        names = ["other", *names]
    try:
        return table_of(tuple(names))
    except ValueError:
        return None


def _triple(text: str) -> Triple | None:
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        return None
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        return None
    first, second, third = numbers
    return first, second, third


def _pad(said: Mapping[str, str]) -> int | None:
    """Return the gray around frames that keep their shape; one of both kinds has it all below."""
    if not said.get("resize_type", "").startswith("fit_to_window"):
        return None
    value = said.get("pad_value", "").strip()
    return int(value) if value.isdecimal() and int(value) <= 255 else 0


def _is_yes(text: str) -> bool:
    return text.strip().lower() in ("yes", "true", "1")


def _number_first(key: object) -> tuple[bool, int, str]:
    return (False, key, "") if isinstance(key, int) else (True, 0, str(key))


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
