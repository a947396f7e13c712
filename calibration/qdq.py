"""Explicit quantisation: QuantizeLinear / DequantizeLinear nodes around convolutions.

The graph is made for OpenVINO and TensorRT alike: int8 throughout with zero point 0 (UINT8
zero points are read wrongly by TensorRT), one scale an activation tensor, one scale an
output channel for weights, which are stored as int8. A tensor has one QuantizeLinear, and
each of its readers a DequantizeLinear of its own. A residual Add takes its other input
quantised as well, so that convolution, Add and activation fuse. Biases stay float, and make
up for what rounding the weights does to a channel's mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.bias import bias_correction
from rtseg.calibration.network import F32, FloatNetwork, consumers_of, producers_of
from rtseg.calibration.thresholds import LEVELS
from rtseg.engines.onnxfile import FreshNames, captured

_SMALLEST_SCALE = 1e-12


@dataclass(frozen=True)
class LeftOut:
    """A convolution that is not worth quantising, and why."""

    name: str
    reason: str


def always_float(network: FloatNetwork) -> tuple[LeftOut, ...]:
    """Return the convolutions that are never quantised.

    These are the logits (a class boundary is a difference of two of them), and those on a
    1x1 map (squeeze-excite, the pyramid's one bin): they cost no time, and one value an
    image stands for all of it.
    """
    readers = consumers_of(network.model)
    nodes = {node.name: node for node in network.model.graph.node}
    for node in nodes.values():
        for name in captured(node):
            readers[name].append((node, -1))
    found = []
    for name in network.convs:
        output = nodes[name].output[0]
        shape = network.shapes.get(output, ())
        if not _reaches_conv(output, readers):
            found.append(LeftOut(name, "logits"))
        elif len(shape) == 4 and shape[2] == shape[3] == 1:
            found.append(LeftOut(name, "1x1 map"))
    return tuple(found)


def _reaches_conv(name: str, readers: Mapping[str, Any]) -> bool:
    waiting, seen = [name], {name}
    while waiting:
        for node, _ in readers.get(waiting.pop(), ()):
            if node.op_type == "Conv":
                return True
            waiting += [output for output in node.output if output not in seen]
            seen.update(node.output)
    return False


def tensors_to_quantise(network: FloatNetwork, convs: Collection[str]) -> tuple[str, ...]:
    """Return the activation tensors that get a scale where ``convs`` are quantised.

    These are the inputs of the convolutions, and for each Add that takes the output of one
    of them directly, its other input. The order is that of the graph.
    """
    residuals = _residuals(network)
    wanted: dict[str, None] = {}
    for node in network.model.graph.node:
        if node.op_type == "Conv" and node.name in convs:
            wanted[node.input[0]] = None
        elif node.name in residuals and residuals[node.name][0] in convs:
            wanted[residuals[node.name][1]] = None
    return tuple(wanted)


def _residuals(network: FloatNetwork) -> dict[str, tuple[str, str]]:
    """For each Add that fuses into a convolution: the convolution, and the other input.

    The last of the Add's inputs to be computed is fused, where only the Add reads it.
    """
    order = {node.name: place for place, node in enumerate(network.model.graph.node)}
    producers = producers_of(network.model)
    readers = consumers_of(network.model)
    constants = {tensor.name for tensor in network.model.graph.initializer}
    found = {}
    for node in network.model.graph.node:
        if node.op_type != "Add" or len(set(node.input)) != 2 or constants & set(node.input):
            continue
        convs = [
            name
            for name in node.input
            if name in producers
            and producers[name].name in network.convs
            and len(readers[name]) == 1
        ]
        if convs:
            fused = max(convs, key=lambda name: order[producers[name].name])
            (other,) = set(node.input) - {fused}
            found[node.name] = (producers[fused].name, other)
    return found


def quantise_weight(weight: F32) -> tuple[NDArray[np.int8], F32]:
    """Quantise a convolution's weight for each output channel.

    Args:
        weight: float32, output channels first.

    Returns:
        int8 codes of -127..127, and the float32 scale of each output channel.
    """
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scales = (np.where(largest > 0, largest, LEVELS) / LEVELS).astype(np.float32)
    scales = np.maximum(scales, np.float32(_SMALLEST_SCALE))
    codes = np.rint(weight / scales.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(codes, -LEVELS, LEVELS).astype(np.int8), scales


def insert_qdq(
    network: FloatNetwork,
    convs: Collection[str],
    thresholds: Mapping[str, float],
    means: Mapping[str, NDArray[np.floating[Any]]] | None = None,
) -> Any:
    """Return a copy of the network with ``convs`` quantised.

    Args:
        network: the float network.
        convs: names of the convolutions to quantise.
        thresholds: magnitude of code 127 for each of :func:`tensors_to_quantise`.
        means: mean of each channel of the convolutions' inputs, by the input's name; the
            biases of those that are here are corrected.

    Returns:
        An ``onnx.ModelProto``.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    graph = model.graph
    nodes = list(graph.node)
    residuals = _residuals(network)
    activations = tensors_to_quantise(network, convs)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    new: list[Any] = []
    fresh = FreshNames(model)
    zero = fresh("int8_zero")
    constants: list[Any] = [numpy_helper.from_array(np.zeros((), np.int8), zero)]
    # The one whose readers come first must be named before them.
    scales = {name: fresh(f"{name}_scale") for name in activations}
    codes = {name: fresh(f"{name}_int8") for name in activations}

    def quantize_node(name: str) -> Any:
        scale = np.float32(max(thresholds[name] / LEVELS, _SMALLEST_SCALE))
        constants.append(numpy_helper.from_array(np.asarray(scale), scales[name]))
        return helper.make_node(
            "QuantizeLinear",
            [name, scales[name], zero],
            [codes[name]],
            name=f"{name}_quantize",
        )

    def dequantize(name: str, reader: Any, position: int) -> None:
        output = fresh(f"{name}_for_{reader.name}_{position}")
        new.append(
            helper.make_node(
                "DequantizeLinear",
                [codes[name], scales[name], zero],
                [output],
                name=f"{output}_dequantize",
            )
        )
        reader.input[position] = output

    if graph.input[0].name in activations:
        new.append(quantize_node(graph.input[0].name))
    for node in nodes:
        if node.op_type == "Conv" and node.name in convs:
            mean = means.get(node.input[0]) if means else None
            dequantize(node.input[0], node, 0)
            new.append(_weight_node(node, weights, constants, fresh, mean))
        elif node.name in residuals and residuals[node.name][0] in convs:
            other = residuals[node.name][1]
            dequantize(other, node, list(node.input).index(other))
        new.append(node)
        new.extend(quantize_node(name) for name in node.output if name in activations)
    del graph.node[:]
    graph.node.extend(new)
    used = {name for node in graph.node for name in (*node.input, *captured(node))}
    kept = [tensor for tensor in [*graph.initializer, *constants] if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    return model


def _weight_node(
    conv: Any,
    weights: Mapping[str, Any],
    constants: list[Any],
    fresh: FreshNames,
    mean: NDArray[np.floating[Any]] | None,
) -> Any:
    """Replace a convolution's weight by int8 codes and return their DequantizeLinear."""
    from onnx import helper, numpy_helper

    weight = numpy_helper.to_array(weights[conv.input[1]])
    codes, scales = quantise_weight(weight)
    name = f"{conv.name}_weight"
    inputs = [fresh(f"{name}_{part}") for part in ("int8", "scale", "zero")]
    arrays = (codes, scales, np.zeros(len(scales), np.int8))
    constants += [numpy_helper.from_array(a, n) for a, n in zip(arrays, inputs, strict=True)]
    conv.input[1] = fresh(f"{name}_float")
    given = conv.input[2] if len(conv.input) > 2 else ""
    if mean is not None and (not given or given in weights):
        rounded = codes * scales.reshape(-1, *[1] * (codes.ndim - 1))
        groups = next((a.i for a in conv.attribute if a.name == "group"), 1)
        bias = numpy_helper.to_array(weights[given]) if given else np.zeros(len(scales), np.float32)
        bias = bias + bias_correction(weight, rounded, mean, groups)
        del conv.input[2:]
        conv.input.append(fresh(f"{conv.name}_corrected_bias"))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), conv.input[2]))
    return helper.make_node(
        "DequantizeLinear",
        inputs,
        [conv.input[1]],
        name=f"{name}_dequantize",
        axis=0,
    )
