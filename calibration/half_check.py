"""Whether FP16 holds what passes through a network, tried on real frames before it is built.

A plan whose activations leave FP16's range computes infinities, then NaN, and at its end one
class for every pixel; nothing says so on the GPU. On a CPU it can be seen: ONNX Runtime
computes the FP16-typed file, with the largest magnitude of every FP16 tensor as an output.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.observe import to_network_input
from rtseg.engines.onnxfile import unsafe_optimizers
from rtseg.engines.spec import EngineSpec

U8 = NDArray[np.uint8]

LARGEST_HALF = 65504.0
# What only moves, selects or limits values cannot be the first to leave the range.
_HARMLESS = frozenset(
    {"Cast", "Clip", "Relu", "Sigmoid", "Softmax", "Transpose", "Reshape", "Concat", "MaxPool"}
    | {"Flatten", "Squeeze", "Unsqueeze", "Identity", "QuantizeLinear", "DequantizeLinear"}
)
_SUFFIX = "__largest"


@dataclass(frozen=True)
class HalfCheck:
    """What was seen of an FP16 network on some frames.

    Attributes:
        frames: how many.
        agreement: share of the pixels with the class that the source gives, 0 to 1.
        largest: the largest magnitude of an FP16 tensor; 65504 is the limit.
        largest_at: name of the node that gave it.
    """

    frames: int
    agreement: float
    largest: float
    largest_at: str


def check_half(
    source: Any, half: Any, spec: EngineSpec, frames: Iterable[U8], *, threads: int = 1
) -> HalfCheck:
    """Run a network and its FP16 form over frames.

    Args:
        source: the ``onnx.ModelProto`` before the conversion, which ends in class ids.
        half: the same with FP16 types.
        spec: what the network expects.
        frames: uint8 H×W×3 RGB, of the network's size.
        threads: CPU threads.

    Raises:
        CalibrationError: ``BAD_ACTIVATIONS`` where a value leaves FP16's range, naming the
            node, or where FP16 gives one class to every pixel and the source does not;
            ``NO_IMAGES``; ``BAD_NETWORK`` where ONNX Runtime is missing or cannot run it.
    """
    watched, nodes = _watched(half)
    full, small = (_session(model, threads) for model in (source, watched))
    outputs = [output.name for output in small.get_outputs()]
    largest, largest_at, same, pixels, number = 0.0, "", 0, 0, 0
    classes: tuple[set[int], set[int]] = (set(), set())
    for number, frame in enumerate(frames, start=1):
        expected = _run(full, frame, spec, [full.get_outputs()[0].name])[0]
        labels, *magnitudes = _run(small, frame, spec, outputs)
        for node, value in zip(nodes, map(float, magnitudes), strict=True):
            if not value <= LARGEST_HALF:  # NaN, too
                raise CalibrationError(
                    f"{spec.network} cannot be computed in FP16: {node} reaches "
                    f"{'infinity' if not np.isfinite(value) else format(value, '.3g')} on frame "
                    f"{number}, FP16 ends at {LARGEST_HALF:g}. Allowed: --precision fp32",
                    reason="BAD_ACTIVATIONS",
                )
            if value >= largest:
                largest, largest_at = value, node
        same += int(np.count_nonzero(labels == expected))
        pixels += labels.size
        for found, seen in zip(classes, (expected, labels), strict=True):
            found.update(np.unique(seen).tolist())
    if number == 0:
        raise CalibrationError("FP16 is tried on frames. Received: none", reason="NO_IMAGES")
    if len(classes[1]) == 1 and len(classes[0]) > 1:
        raise CalibrationError(
            f"{spec.network} gives class {classes[1].pop()} to every pixel of {number} frames in "
            f"FP16, and {len(classes[0])} classes in its own precision. Allowed: --precision fp32",
            reason="BAD_ACTIVATIONS",
        )
    return HalfCheck(number, same / pixels, largest, largest_at)


def _watched(model: Any) -> tuple[Any, list[str]]:
    """Return a copy that also puts out the largest magnitude of FP16 tensors, and their nodes."""
    from onnx import ModelProto, TensorProto, helper, shape_inference

    copy = ModelProto()
    copy.CopyFrom(model)
    inferred = shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    names = []
    for node in list(copy.graph.node):
        if node.op_type in _HARMLESS or not node.output:
            continue
        tensor = node.output[0]
        if types.get(tensor) != TensorProto.FLOAT16:
            continue
        largest = tensor + _SUFFIX
        copy.graph.node.extend(
            [
                helper.make_node("Cast", [tensor], [largest + "32"], to=TensorProto.FLOAT),
                helper.make_node("Abs", [largest + "32"], [largest + "abs"]),
                helper.make_node("ReduceMax", [largest + "abs"], [largest], keepdims=0),
            ]
        )
        copy.graph.output.append(helper.make_tensor_value_info(largest, TensorProto.FLOAT, []))
        names.append(f"{node.op_type} {node.name!r}")
    return copy, names


def _session(model: Any, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise CalibrationError(
            "trying FP16 on frames needs ONNX Runtime: pip install rt-seg[onnxruntime]",
            reason="BAD_NETWORK",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=unsafe_optimizers(model),
        )
    except Exception as error:  # the runtime has a dozen exception types and no common base
        raise _cannot_run(error) from error


def _run(session: Any, frame: U8, spec: EngineSpec, outputs: list[str]) -> list[Any]:
    name = session.get_inputs()[0].name
    try:
        found: list[Any] = session.run(outputs, {name: to_network_input(frame, spec)})
    except Exception as error:  # see above
        raise _cannot_run(error) from error
    return found


def _cannot_run(error: Exception) -> CalibrationError:
    return CalibrationError(
        f"the FP16 network cannot be tried: {' '.join(str(error).split())[:200]}",
        reason="BAD_NETWORK",
    )
