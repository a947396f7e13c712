"""Quantise what is never negative to UINT8: the CPU engine multiplies that faster."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

_LARGEST_INT8 = 127
_LARGEST_UINT8 = 255


def quantise_unsigned(
    model: Any, keep: frozenset[str] = frozenset(), *, finer: bool = False
) -> int:
    """Let INT8 activations behind a ReLU be UINT8 of the same range, in place.

    A file of ours is INT8 throughout, as TensorRT wants it. The dot products of processors with
    AVX-512 VNNI take an unsigned and a signed number, so for a signed activation OpenVINO
    has to make up for the difference. The ReLU is bounded where INT8 ends: with the same
    scale each of 0 … 127 is given to the same inputs as before, and the values stay what they
    are. With ``finer`` they are nearer to the float ones, and UINT8 ends where the ReLU
    does, so that OpenVINO leaves the bound to it.

    Args:
        model: the ``onnx.ModelProto``.
        keep: names of tensors that must stay.
        finer: take half the scale and all of 0 … 255; for processors that add such products
            exactly (:func:`rtseg.engines.processor.adds_bytes_exactly`).

    Returns:
        How many were changed. Left alone is a ReLU whose output is used otherwise, too, a
        scale for each channel, and whatever goes elsewhere than to a DequantizeLinear.
    """
    graph = model.graph
    constants = {value.name: value for value in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    uses.update(keep)
    readers: defaultdict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in set(node.input):
            readers[name].append(node)

    changed = []
    for quantise in graph.node:
        if quantise.op_type != "QuantizeLinear" or uses[quantise.input[0]] != 1:
            continue
        rectifier = makers.get(quantise.input[0])
        scale = _scale_of_int8(quantise, constants)
        behind = readers[quantise.output[0]]
        if (
            rectifier is None
            or scale is None
            or uses[quantise.output[0]] != len(behind)
            or any(node.op_type != "DequantizeLinear" for node in behind)
        ):
            continue
        largest = (scale * _LARGEST_INT8).astype(scale.dtype)  # NumPy 1 makes it a double
        top = _bound(graph, rectifier, largest, constants)
        if top is None:
            continue
        step = (np.float64(top) / _LARGEST_UINT8).astype(top.dtype)
        one_scale = all(_equals(node.input[1], scale, constants) for node in behind)
        if finer and one_scale and step > 0:
            name = f"{quantise.output[0]}/finer"
            _add(graph, name, step)
            for node in (quantise, *behind):
                node.input[1] = name
        for node in (quantise, *behind):
            del node.input[2:]  # a DequantizeLinear may have none
            node.input.append(_ZERO)
        for named in [a for a in quantise.attribute if a.name == "output_dtype"]:
            quantise.attribute.remove(named)  # the zero point says it
        changed.append(quantise.output[0])
    if changed:
        _add(graph, _ZERO, np.uint8(0))
        stale = [value for value in graph.value_info if value.name in changed]
        for value in stale:
            graph.value_info.remove(value)
    return len(changed)


_ZERO = "rtseg/uint8_zero"


def _add(graph: Any, name: str, value: Any) -> None:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def _equals(name: str, value: Any, constants: dict[str, Any]) -> bool:
    from onnx import numpy_helper

    return name in constants and np.array_equal(
        numpy_helper.to_array(constants[name]).reshape(-1), value.reshape(-1)
    )


def _scale_of_int8(quantise: Any, constants: dict[str, Any]) -> Any:
    """Return the scale, a 0-d array, of a quantisation to INT8 around 0; else None."""
    from onnx import TensorProto, numpy_helper

    if len(quantise.input) < 3 or any(name not in constants for name in quantise.input[1:]):
        return None
    scale, zero = (constants[name] for name in quantise.input[1:])
    if zero.data_type != TensorProto.INT8:
        return None
    factor, offset = numpy_helper.to_array(scale), numpy_helper.to_array(zero)
    if factor.size != 1 or offset.any():
        return None
    return factor.reshape(())


def _bound(graph: Any, rectifier: Any, largest: Any, constants: dict[str, Any]) -> Any:
    """Let a ReLU or a Clip from 0 end at ``largest`` at most; return its end, or None."""
    from onnx import numpy_helper

    if rectifier.op_type == "Clip" and len(rectifier.input) == 3:
        if any(name not in constants for name in rectifier.input[1:]):
            return None
        low, high = (numpy_helper.to_array(constants[name]) for name in rectifier.input[1:])
        if low.size != 1 or high.size != 1 or float(low.item()) != 0:
            return None
        largest = np.minimum(high.reshape(()), largest.astype(high.dtype))
    elif rectifier.op_type == "Relu":
        rectifier.op_type = "Clip"
        bottom = f"{rectifier.output[0]}/bottom"
        _add(graph, bottom, np.zeros((), largest.dtype))
        rectifier.input.extend([bottom, ""])
    else:
        return None
    top = f"{rectifier.output[0]}/top"
    _add(graph, top, largest)
    rectifier.input[2] = top
    return largest
