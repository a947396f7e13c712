"""What TensorRT is known to refuse, or to compute wrongly, said before a build, with names.

Each rule was seen with a real builder (TensorRT-RTX 1.7, and the same parser in TensorRT 11);
``tests/engines/test_tensorrt_checks.py`` builds such a graph for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rtseg.engines.errors import EngineError

_SHOWN = 3
_QDQ = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Problem:
    """A node that TensorRT cannot build, or would compute wrongly.

    Attributes:
        node: its name.
        operator: its ONNX operator.
        reason: what is wrong, and what would do instead.
    """

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} {self.node!r}: {self.reason}"


def find_problems(model: Any) -> list[Problem]:
    """Return what is wrong with a network, in the order of its nodes; empty where nothing is.

    Args:
        model: an ``onnx.ModelProto``.
    """
    graph = _Graph(model)
    return [*_free_axes(model), *(p for node in model.graph.node for p in graph.problems(node))]


def check_buildable(model: Any, network: str) -> None:
    """Raise where TensorRT is known to fail.

    Raises:
        EngineError: ``ENGINE_UNSUPPORTED``, naming the first nodes and what to do.
    """
    problems = find_problems(model)
    if problems:
        shown = "; ".join(str(problem) for problem in problems[:_SHOWN])
        more = len(problems) - _SHOWN
        raise EngineError(
            f"TensorRT cannot build {network}: {shown}" + (f"; and {more} more" * (more > 0)),
            reason="ENGINE_UNSUPPORTED",
        )


def _free_axes(model: Any) -> Iterator[Problem]:
    """A free batch gets its profile; other free axes have no size that could be built for."""
    weights = {weight.name for weight in model.graph.initializer}
    for value in model.graph.input:
        axes = value.type.tensor_type.shape.dim
        free = [n for n, axis in enumerate(axes) if not axis.dim_value]
        if value.name not in weights and [n for n in free if n > 0]:
            yield Problem(
                value.name,
                "input",
                f"axis {free[-1]} has no fixed length; only the batch may be free (name a size)",
            )


class _Graph:
    """A network with the types of its tensors."""

    def __init__(self, model: Any) -> None:
        from onnx import helper, numpy_helper, shape_inference

        inferred = shape_inference.infer_shapes(model).graph
        self._types: dict[str, int] = {
            value.name: value.type.tensor_type.elem_type
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        self._constants: dict[str, Any] = {w.name: w for w in model.graph.initializer}
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    self._constants[node.output[0]] = attribute.t
        self._types.update({name: tensor.data_type for name, tensor in self._constants.items()})
        self._array: Callable[[Any], Any] = numpy_helper.to_array
        self._value: Callable[[Any], Any] = helper.get_attribute_value

    def problems(self, node: Any) -> Iterator[Problem]:
        """Yield what is wrong with one node."""
        name = node.name or (node.output[0] if node.output else "")
        if node.domain not in ("", "ai.onnx"):
            return
        rule = self._quantiser if node.op_type in _QDQ else self._plain
        for reason in rule(node):
            yield Problem(name, node.op_type, reason)

    def _plain(self, node: Any) -> Iterator[str]:
        from onnx import TensorProto

        if node.op_type == "Resize":
            mode = self._attribute(node, "coordinate_transformation_mode")
            if mode == b"tf_crop_and_resize":
                yield "crops by a region of interest; allowed: half_pixel and the like, whole maps"
        if node.op_type in ("Cast", "Constant"):
            return
        tensors = [name for name in (*node.input, *node.output) if name]
        if any(self._types.get(name) == TensorProto.UINT8 for name in tensors):
            yield "does not take UINT8; only a Cast does: cast to float before it"

    def _quantiser(self, node: Any) -> Iterator[str]:
        from onnx import TensorProto

        data = node.input[0] if node.op_type == "DequantizeLinear" else node.output[0]
        zero = node.input[2] if len(node.input) > 2 else ""
        kind = self._types.get(zero) if zero else self._types.get(data)
        if kind == TensorProto.INT32:
            yield "takes INT32 (a quantised bias); keep biases in float"
        elif kind == TensorProto.UINT8:
            yield (
                "quantises to UINT8, which TensorRT reads as INT8 and gets wrong; allowed: "
                f"INT8 with zero point 0{'' if zero else ' (without one, ONNX means UINT8)'}"
            )
        elif zero in self._constants and self._array(self._constants[zero]).any():
            yield "has a zero point that is not 0; TensorRT quantises symmetrically"
        if data in self._constants and not self._constants[data].dims:
            yield "dequantises a single number; keep it in float, or give it one axis"

    def _attribute(self, node: Any, name: str) -> Any:
        return next((self._value(a) for a in node.attribute if a.name == name), None)
