"""Which nodes of a network compute in FP16, and the graph with those types written in.

TensorRT 11 has no precision flags any more: what is to be computed in FP16 is FP16 in the
file. Everything from the first to the last convolution is, with its weights. Before it,
normalisation stays FP32, and after it upsampling and argmax do: FP16 makes ties of logits
that differ. What FP16 cannot hold stays FP32, between Casts.

Of an INT8 network (explicit Q/DQ) this converts what is not quantised, and the scales.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtseg.engines import onnxfile
from rtseg.engines.deployable import drop_unused
from rtseg.engines.errors import EngineError

LARGEST = 65504.0
SMALLEST = 2.0**-24
SMALLEST_SCALE = 2.0**-18
"""Scales below are rounded by more than about 1 % in FP16."""

MIN_QDQ_OPSET = 19
"""First opset whose QuantizeLinear and DequantizeLinear take FP16 scales."""

_ANCHORS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
_SCALES = {"QuantizeLinear", "DequantizeLinear"}
# Operators that are as good in FP16: no exponentials, no squares, and no sums over a map but
# those that runtimes accumulate in FP32.
_HALF = {
    *_ANCHORS,
    *_SCALES,
    *("Add", "Sub", "Mul", "Div", "Min", "Max", "Neg", "Abs", "Clip"),
    *("Relu", "LeakyRelu", "PRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh"),
    *("BatchNormalization", "AveragePool", "MaxPool", "GlobalAveragePool", "Resize"),
    *("Concat", "Split", "Slice", "Pad", "Transpose", "Reshape", "Flatten", "Expand"),
    *("Squeeze", "Unsqueeze", "Gather", "DepthToSpace", "SpaceToDepth", "Identity"),
}
_SHAPE_INPUTS = {"Resize": (1, 2)}
"""Inputs that are numbers for the shape, FP32 whatever the data is: region and scales."""


@dataclass(frozen=True)
class HalfModel:
    """A network of which most is FP16.

    Attributes:
        model: the ``onnx.ModelProto``.
        half: names of the nodes that compute in FP16.
        kept: convolutions and products of matrices that stay in FP32, each with the reason.
    """

    model: Any
    half: tuple[str, ...]
    kept: dict[str, str]


def half_types(model: Any, network: str = "the network") -> HalfModel:
    """Return a copy of a network with FP16 in place of FP32, where that does no harm.

    Args:
        model: an ``onnx.ModelProto``: FP32, or INT8 with Q/DQ nodes of opset 19 on.
        network: its name, for errors.

    Raises:
        EngineError: ``ENGINE_MISMATCH`` where it is FP16 already, ``ENGINE_UNSUPPORTED``
            where it has nothing to convert or cannot be converted.
    """
    import onnx

    if onnxfile.is_half(model):
        raise EngineError(
            f"{network} is FP16 already; FP16 is made from FP32", reason="ENGINE_MISMATCH"
        )
    _refuse(model, network)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    onnxfile.constants_to_initializers(result)
    onnxfile.name_nodes(result)
    _raise_weight_scales(result)
    graph = _Graph(result)
    half, kept = graph.choose()
    if not half:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(kept.items())[:3])
        raise EngineError(
            f"{network} has no FP32 convolution that FP16 can hold{why and f' ({why})'}",
            reason="ENGINE_UNSUPPORTED",
        )
    _rewrite(graph, half)
    del result.graph.value_info[:]
    drop_unused(result)
    try:
        onnx.checker.check_model(result, full_check=True)  # every type, strictly
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(
            f"{network} cannot be converted to FP16: {onnxfile.one_line(error)}",
            reason="ENGINE_UNSUPPORTED",
        ) from error
    return HalfModel(result, tuple(n.name for n in graph.nodes if n.name in half), kept)


class _Graph:
    """Who makes and who reads each tensor, and which are FP32."""

    def __init__(self, model: Any) -> None:
        from onnx import TensorProto, numpy_helper, shape_inference

        self.model = model
        self.nodes = list(model.graph.node)
        self.weights = {
            weight.name: numpy_helper.to_array(weight)
            for weight in model.graph.initializer
            if weight.data_type == TensorProto.FLOAT
        }
        self.constants = {weight.name for weight in model.graph.initializer}
        self.producer: dict[str, Any] = {}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            self.producer.update({name: node for name in node.output if name})
            for name in node.input:
                self.readers[name].append(node)
            if all(name in self.constants for name in node.input if name):
                self.constants.update(node.output)
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        self.floats = set(self.weights) | {
            value.name
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        }

    def choose(self) -> tuple[set[str], dict[str, str]]:
        """Return the names of the nodes to convert, and the anchors that stay, with why."""
        anchors = [node for node in self.nodes if node.op_type in _ANCHORS]
        ends = {value.name for value in self.model.graph.output}
        below = _reach(anchors, self._readers)
        above = _reach(anchors, self._makers)
        half = {
            node.name
            for node in self.nodes
            if node.name in above
            and (node.name in below or node.op_type in _SCALES or self._is_constant(node))
            and node.op_type in _HALF
            and node.domain in ("", "ai.onnx")
            and not ends & set(node.output)
            and self._computes_floats(node)
        }
        half -= self._of_shapes()
        kept = {n.name: "not an FP32 layer" for n in anchors if n.name not in half}
        for node in self.nodes:
            if node.name in half and (why := self._unfit(node)):
                self._leave(node, why, half, kept)
        return half, kept

    def _of_shapes(self) -> set[str]:
        """Return the names of the nodes that compute numbers for a shape, such as a scale.

        Rounded to FP16, 64/24 would make 63 rows of 24.
        """
        found: set[str] = set()
        waiting = [
            node.input[place]
            for node in self.nodes
            for place in _shape_inputs(node)
            if place < len(node.input)
        ]
        while waiting:
            maker = self.producer.get(waiting.pop())
            if maker is not None and maker.name not in found:
                found.add(maker.name)
                waiting += [name for name in maker.input if name in self.floats]
        return found

    def _leave(self, node: Any, why: str, half: set[str], kept: dict[str, str]) -> None:
        half.discard(node.name)
        if node.op_type in _ANCHORS:
            kept[node.name] = why
            # A Cast between DequantizeLinear and convolution would cost the INT8.
            half -= {n.name for n in self._makers(node) if n.op_type == "DequantizeLinear"}
        elif node.op_type == "DequantizeLinear":
            for reader in self._readers(node):
                if reader.op_type in _ANCHORS and reader.name in half:
                    self._leave(reader, why, half, kept)

    def _makers(self, node: Any) -> Iterable[Any]:
        return (self.producer[name] for name in node.input if name in self.producer)

    def _readers(self, node: Any) -> Iterable[Any]:
        return (reader for name in node.output for reader in self.readers.get(name, ()))

    def _is_constant(self, node: Any) -> bool:
        return all(name in self.constants for name in node.output if name)

    def _computes_floats(self, node: Any) -> bool:
        if node.op_type == "QuantizeLinear":
            return node.input[0] in self.floats
        return all(name in self.floats for name in node.output if name)

    def _unfit(self, node: Any) -> str:
        """Say why a node's constants do not fit into FP16; empty where they do."""
        for position, name in enumerate(node.input):
            values = self.weights.get(name)
            if values is None or not values.size or position in _shape_inputs(node):
                continue
            sizes = np.abs(values)
            largest = float(sizes.max())
            if not np.isfinite(sizes).all() or largest > LARGEST:
                return f"{name} goes up to {largest:.3g}, FP16 to {LARGEST:g}"
            if node.op_type in _SCALES and sizes.min() < SMALLEST_SCALE:
                return f"a scale of {sizes.min():.2g} is too small for FP16"
            if values.size == 1 and 0 < largest < SMALLEST:
                return f"{name} is {largest:.2g}, which is 0 in FP16"
        return ""


def _reach(start: list[Any], step: Callable[[Any], Iterable[Any]]) -> set[str]:
    """Return the names of the nodes that steps from ``start`` lead to, and of ``start``."""
    found = {node.name for node in start}
    waiting = list(start)
    while waiting:
        for node in step(waiting.pop()):
            if node.name not in found:
                found.add(node.name)
                waiting.append(node)
    return found


def _shape_inputs(node: Any) -> tuple[int, ...]:
    return _SHAPE_INPUTS.get(node.op_type, ())


def _rewrite(graph: _Graph, half: set[str]) -> None:
    """Turn the chosen nodes' weights into FP16, and cast where the two types meet."""
    from onnx import NodeProto, TensorProto, helper, numpy_helper

    made: set[str] = set()
    nodes: list[Any] = []

    def other(name: str, to_half: bool) -> str:
        """Return the name of a tensor in the other type."""
        label = f"{name}/{'fp16' if to_half else 'fp32'}"
        if label in made:
            return label
        made.add(label)
        if name in graph.weights:
            array = graph.weights[name].astype(np.float16)
            graph.model.graph.initializer.append(numpy_helper.from_array(array, label))
        else:
            element = TensorProto.FLOAT16 if to_half else TensorProto.FLOAT
            nodes.append(helper.make_node("Cast", [name], [label], f"{label}_cast", to=element))
        return label

    for original in graph.nodes:
        node = NodeProto()
        node.CopyFrom(original)
        takes_half = node.name in half
        for position, name in enumerate(node.input):
            if name not in graph.floats or (takes_half and position in _shape_inputs(node)):
                continue
            maker = graph.producer.get(name)
            if (maker is not None and maker.name in half) != takes_half:
                node.input[position] = other(name, takes_half)
        nodes.append(node)
    del graph.model.graph.node[:]
    graph.model.graph.node.extend(nodes)


def _refuse(model: Any, network: str) -> None:
    if any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute):
        raise EngineError(
            f"{network} has branches or loops, which are not converted to FP16",
            reason="ENGINE_UNSUPPORTED",
        )
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if onnxfile.is_quantised(model) and opset < MIN_QDQ_OPSET:
        raise EngineError(
            f"FP16 scales of a quantised network need ONNX opset {MIN_QDQ_OPSET} (what "
            f"rt-seg-engine build --precision int8 writes). Received: {network} of opset {opset}",
            reason="ENGINE_UNSUPPORTED",
        )


def _raise_weight_scales(model: Any) -> None:
    """Give INT8 weights of channels that are all but dead a scale that FP16 can hold.

    Their codes shrink with it; what is lost is below half of :data:`SMALLEST_SCALE`.
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        codes, scales = (weights.get(name) for name in node.input[:2])
        if codes is None or scales is None or codes.data_type != TensorProto.INT8:
            continue
        old = numpy_helper.to_array(scales)
        if old.dtype != np.float32 or old.size == 0 or old.min() >= SMALLEST_SCALE:
            continue
        new = np.maximum(old, np.float32(SMALLEST_SCALE))
        factor = old.astype(np.float64) / new
        axis = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"), 1)
        values = numpy_helper.to_array(codes)
        if factor.ndim:
            shape = [1] * values.ndim
            shape[axis] = -1
            factor = factor.reshape(shape)
        for position, array in ((0, np.round(values * factor).astype(np.int8)), (1, new)):
            label = f"{node.name}/raised_{'scale' if position else 'codes'}"
            model.graph.initializer.append(numpy_helper.from_array(array, label))
            node.input[position] = label
