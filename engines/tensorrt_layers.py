"""Which layer a TensorRT build made of which nodes, and in which types it computes.

Without a GPU no engine can be inspected, but the builder prints every layer, with verbose
logging and detailed profiling. This reads those lines, of TensorRT 10 and 11 and of
TensorRT-RTX.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_LAYER = re.compile(r"^Name: (?P<name>.+?), LayerType: (?P<kind>[^,]*), (?P<rest>.*)$")
_PART = re.compile(r"\b(Inputs|Constants|Outputs|ParameterType|TacticName|StreamId|Metadata): ")
_TENSOR = re.compile(r"Dimensions: \[(?P<shape>[^\]]*)\].*?Datatype: (?P<type>[^,}\]]*)", re.DOTALL)
_ONNX = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_TYPES = {
    "FP32": "Float",
    "FP16": "Half",
    "BF16": "BFloat16",
    "INT8": "Int8",
    "INT32": "Int32",
    "INT64": "Int64",
    "UINT8": "UInt8",
    "BOOL": "Bool",
}
_WEIGHT_DIMENSIONS = 3


@dataclass(frozen=True)
class Layer:
    """One layer of a built engine.

    Attributes:
        name: the builder's name for it.
        kind: the builder's type of it, as ``correlation`` (a convolution) or ``kgen``.
        inputs: types of its inputs, as ``Half``, ``Int8``, ``Float``.
        weights: types of its constants of three dimensions and more.
        outputs: types of its outputs.
        nodes: names of the ONNX nodes in it.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def precision(self) -> str:
        """The type that it multiplies in, as ``Half``: the narrowest of inputs and weights."""
        for name in ("Int8", "Half", "BFloat16", "Float"):
            if name in self.inputs and (not self.weights or name in self.weights):
                return name
        return next(iter(self.inputs or self.outputs), "")

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON would have it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "inputs": list(self.inputs),
            "weights": list(self.weights),
            "outputs": list(self.outputs),
            "nodes": list(self.nodes),
        }

    @classmethod
    def from_json(cls, values: Any) -> Layer:
        """Read what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return cls(
            _text(values["name"]),
            _text(values["kind"]),
            *(
                tuple(_text(text) for text in values[key])
                for key in ("inputs", "weights", "outputs", "nodes")
            ),
        )


def read_layers(lines: Iterable[str]) -> tuple[Layer, ...]:
    """Return the layers that a build log names, in the order in which they run."""
    found: dict[str, Layer] = {}
    for line in lines:
        match = _LAYER.match(line.strip())
        if not match:
            continue
        _, *pieces = _PART.split(match["rest"])
        parts = {"Inputs": "", "Constants": "", "Outputs": ""}
        parts.update(zip(pieces[::2], pieces[1::2], strict=True))
        weights = [
            _type(text)
            for shape, text in _TENSOR.findall(parts["Constants"])
            if shape.count(",") + 1 >= _WEIGHT_DIMENSIONS
        ]
        found[match["name"]] = Layer(
            name=match["name"],
            kind=match["kind"].strip(),
            inputs=tuple(_type(text) for _, text in _TENSOR.findall(parts["Inputs"])),
            weights=tuple(weights),
            outputs=tuple(_type(text) for _, text in _TENSOR.findall(parts["Outputs"])),
            nodes=tuple(dict.fromkeys(_ONNX.findall(match["rest"]))),
        )
    return tuple(found.values())


def _type(text: str) -> str:
    """Return a type by its name in TensorRT 11: 10 writes ``Row major linear FP32``."""
    for word in text.split():
        if word.upper() in _TYPES:
            return _TYPES[word.upper()]
    words = text.split()
    return words[0] if words else ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, not {type(value).__name__}")
    return value
