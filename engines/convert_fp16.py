"""An ONNX network whose types are FP16: TensorRT computes in the types of the file.

TensorRT 11 has no precision flags left, so FP16 is made here, once, for every runtime. Frames
and class ids stay uint8; a float input or output stays FP32 with a Cast behind or before it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.engines.errors import EngineError
from rtseg.engines.onnxfile import load_onnx
from rtseg.engines.spec import METADATA_KEY, EngineSpec

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_subnormal)

_STAYS_FP32 = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}
"""Inputs (operator, position) that ONNX or TensorRT want in FP32: regions and scales."""

_QDQ = ("QuantizeLinear", "DequantizeLinear")


def to_fp16(model: Any) -> Any:
    """Return a copy of a network with FP16 in place of FP32.

    INT8 networks keep their integers; the scales of Q/DQ become FP16, which needs opset 19.

    Args:
        model: an ``onnx.ModelProto`` with FP32 types.

    Raises:
        EngineError: ``ENGINE_UNSUPPORTED`` where a weight is beyond FP16's range, or a
            quantised network has an older opset.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    opset = max((o.version for o in result.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < 19 and any(node.op_type in _QDQ for node in graph.node):
        raise EngineError(
            f"FP16 scales of a quantised network need ONNX opset 19. Received: {opset}",
            reason="ENGINE_UNSUPPORTED",
        )
    weights = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    halves: dict[str, str] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in weights and (node.op_type, position) not in _STAYS_FP32:
                if name not in halves:
                    scale = node.op_type in _QDQ and position == 1
                    array = _half(numpy_helper.to_array(weights[name]), name, scale=scale)
                    halves[name] = f"{name}_fp16"
                    graph.initializer.append(numpy_helper.from_array(array, halves[name]))
                node.input[position] = halves[name]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                if attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
            elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                array = _half(numpy_helper.to_array(attribute.t), node.name)
                attribute.t.CopyFrom(numpy_helper.from_array(array, attribute.t.name))
    _cast_ends(graph, helper, TensorProto)
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    for entry in result.metadata_props:
        if entry.key == METADATA_KEY:
            spec = EngineSpec.from_json(entry.value)
            if spec.precision == "fp32":
                entry.value = replace(spec, precision="fp16").to_json()
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(
            f"the network cannot be typed as FP16: {str(error).strip().splitlines()[0]}",
            reason="ENGINE_UNSUPPORTED",
        ) from error
    return result


def convert_fp16(source: Path, output: Path) -> None:
    """Write the FP16 form of an FP32 or INT8 network.

    Raises:
        EngineError: the source cannot be read or converted, or the output not written.
    """
    content = to_fp16(load_onnx(source)).SerializeToString(deterministic=True)
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise EngineError(
            f"cannot write {output}: {error.strerror or error}", reason="ENGINE_FAILED"
        ) from error


def _half(array: Any, name: str, *, scale: bool = False) -> Any:
    largest = float(np.abs(array[np.isfinite(array)]).max(initial=0))
    if largest > _LARGEST:
        raise EngineError(
            f"{name!r} holds {largest:g}; FP16 reaches {_LARGEST:g}", reason="ENGINE_UNSUPPORTED"
        )
    if scale:  # a scale must not become 0
        array = np.maximum(array, _SMALLEST_SCALE)
    return array.astype(np.float16)


def _cast_ends(graph: Any, helper: Any, types: Any) -> None:
    """Keep FP32 inputs and outputs by casting behind and before them."""
    nodes = list(graph.node)
    for value in graph.input:
        if value.type.tensor_type.elem_type == types.FLOAT:
            inner = f"{value.name}_fp16"
            for node in nodes:
                for position, name in enumerate(node.input):
                    if name == value.name:
                        node.input[position] = inner
            nodes.insert(
                0, helper.make_node("Cast", [value.name], [inner], inner, to=types.FLOAT16)
            )
    for value in graph.output:
        if value.type.tensor_type.elem_type == types.FLOAT:
            inner = f"{value.name}_fp16"
            for node in nodes:
                for names in (node.input, node.output):
                    for position, name in enumerate(names):
                        if name == value.name:
                            names[position] = inner
            nodes.append(helper.make_node("Cast", [inner], [value.name], inner, to=types.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
