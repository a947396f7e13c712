"""Graph surgery: what goes before and after a network so that it eats frames, gives labels.

``prepend_head`` makes a graph take uint8 RGB frames N×H×W×3, ``append_tail`` makes it end
in uint8 class ids N×H×W, ``guard_logits`` lets an engine see logits that are not finite.
All change an ``onnx.ModelProto`` in place, with operators of opset 11 on, which OpenVINO,
ONNX Runtime and TensorRT share. Class ids are upsampled from the logits (linear,
half-pixel), never from ids: at a quarter of the size that is worth about two points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtseg.engines import onnxfile
from rtseg.engines.graph_builder import GraphBuilder
from rtseg.engines.labels import VOID_ID
from rtseg.engines.ports import ImageInput, SegmentationOutput

MIN_OPSET = 11
"""First opset whose Resize knows half-pixel coordinates."""

FRAMES = "frames"
LABELS = "labels"
SCORES = "scores"
LOGIT_MEAN = "logit_mean"
"""Name of the extra scalar output: not finite where a logit is not."""


def prepend_head(
    model: Any,
    image: ImageInput,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    scale: float,
    bgr: bool = False,
    normalise: bool = True,
    frames: str = FRAMES,
) -> None:
    """Let ``model`` take uint8 RGB frames 1×H×W×3 named ``frames``.

    Computes ``(x / scale - mean) / std`` for each channel, as one multiplication and one
    addition, in the layout and the type that the network wants.

    Args:
        model: the ``onnx.ModelProto``; its graph has no tensor named ``frames``.
        image: its picture input.
        mean: three numbers, in the order in which the network takes the channels.
        std: three numbers, same order.
        scale: divisor of the uint8 input before mean and std.
        bgr: whether the network takes blue first.
        normalise: False leaves the values 0..255 as they are.
        frames: name of the new input.
    """
    from onnx import TensorProto, helper

    build = GraphBuilder(model, "head")
    tensor = frames
    if image.dtype != "uint8" or _is_only_cast(model, image.name):
        # Cast comes before Transpose: TensorRT does nothing else with uint8.
        tensor = build.node("Cast", [tensor], to=TensorProto.FLOAT)
    if image.layout == "nchw":
        tensor = build.node("Transpose", [tensor], perm=[0, 3, 1, 2])
    channel_axis = 1 if image.layout == "nchw" else 3
    if bgr:
        order = build.constant(np.array([2, 1, 0], np.int64))
        tensor = build.node("Gather", [tensor, order], axis=channel_axis)
    if normalise and image.dtype != "uint8":
        shape = [1, 1, 1, 1]
        shape[channel_axis] = 3
        wide_std = np.asarray(std, np.float64)
        factor = (1.0 / (scale * wide_std)).astype(np.float32).reshape(shape)
        offset = (-np.asarray(mean, np.float64) / wide_std).astype(np.float32).reshape(shape)
        tensor = build.node("Mul", [tensor, build.constant(factor)])
        tensor = build.node("Add", [tensor, build.constant(offset)])
    if image.dtype not in ("uint8", "float32"):
        element = getattr(TensorProto, {"float64": "DOUBLE"}.get(image.dtype, image.dtype.upper()))
        tensor = build.node("Cast", [tensor], to=element)
    build.node("Identity", [tensor], output=image.name)

    for position, value in enumerate(model.graph.input):
        if value.name == image.name:
            del model.graph.input[position]
            break
    model.graph.input.insert(
        0,
        helper.make_tensor_value_info(frames, TensorProto.UINT8, [1, image.height, image.width, 3]),
    )
    build.insert_before()


def _is_only_cast(model: Any, tensor: str) -> bool:
    """Tell whether all that reads a tensor casts it, so that it may have any type."""
    readers = [node for node in model.graph.node if tensor in node.input]
    nested = any(tensor in onnxfile.captured(node) for node in model.graph.node)
    return not nested and all(node.op_type == "Cast" for node in readers)


def append_tail(
    model: Any,
    output: SegmentationOutput,
    *,
    height: int,
    width: int,
    use_channels: int | None = None,
    threshold: float = 0.0,
    id_count: int = VOID_ID,
    labels: str = LABELS,
    logit_mean: str | None = LOGIT_MEAN,
) -> None:
    """Let ``model`` end in uint8 class ids 1×height×width named ``labels``.

    Args:
        model: the ``onnx.ModelProto``.
        output: its segmentation output; all other outputs are dropped.
        height: rows of the labels, in pixels.
        width: columns of the labels, in pixels.
        use_channels: only the first so many channels are classes; None takes all.
        threshold: where the output has one channel: above it, a pixel is the second class.
        id_count: class ids outside 0..id_count-1 become 255, for an output that is
            labels already.
        labels: name of the new output.
        logit_mean: name of the scalar output that :func:`guard_logits` describes, or None
            for none. A network that ends in labels has none.
    """
    from onnx import TensorProto, helper

    build = GraphBuilder(model, "tail")
    infos = [helper.make_tensor_value_info(labels, TensorProto.UINT8, [1, height, width])]
    if output.kind == "labels":
        _append_labels(model, build, output, height, width, id_count, labels)
    else:
        if logit_mean is not None:
            infos.append(helper.make_tensor_value_info(logit_mean, TensorProto.FLOAT, []))
        _append_logits(
            model, build, output, height, width, use_channels, threshold, labels, logit_mean
        )
    build.insert_after()
    del model.graph.output[:]
    model.graph.output.extend(infos)


def _append_logits(
    model: Any,
    build: GraphBuilder,
    output: SegmentationOutput,
    height: int,
    width: int,
    use_channels: int | None,
    threshold: float,
    labels: str,
    logit_mean: str | None,
) -> None:
    from onnx import TensorProto

    tensor = output.name
    if output.axes < 4:
        tensor = build.node("Reshape", [tensor, build.constant(np.array(output.shape, np.int64))])
    axis = 1 if output.layout == "nchw" else 3
    channels = output.channels
    if output.dtype != "float32":
        tensor = build.node("Cast", [tensor], to=TensorProto.FLOAT)
    if use_channels is not None and use_channels < channels:
        bounds = [build.constant(np.array([n], np.int64)) for n in (0, use_channels, axis)]
        tensor = build.node("Slice", [tensor, *bounds])
        channels = use_channels
    if logit_mean is not None:
        small = _before_enlarging(model, output.name)
        measured = tensor
        if small != output.name and channels == output.channels:  # else of those that are used
            measured = build.node("Cast", [small], to=TensorProto.FLOAT)
        build.node("ReduceMean", [measured], output=logit_mean, keepdims=0)
    if channels == 1:  # the first class has as much as the second lacks
        twice = build.constant(np.array(2.0 * threshold, np.float32))
        tensor = build.node("Concat", [build.node("Sub", [twice, tensor]), tensor], axis=axis)
        channels = 2
    if (output.height, output.width) != (height, width):
        if axis == 3:
            tensor = build.node("Transpose", [tensor], perm=[0, 3, 1, 2])
            axis = 1
        tensor = build.resize(
            tensor,
            [1, channels, height, width],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
    tensor = build.node("ArgMax", [tensor], axis=axis, keepdims=0)
    build.node("Cast", [tensor], output=labels, to=TensorProto.UINT8)


def _uncast_ids(model: Any, ids: str) -> str:
    """Return class ids as the ArgMax gives them where a Cast follows it, else as they are."""
    maker = {name: node for node in model.graph.node for name in node.output}
    cast = maker.get(ids)
    if cast is None or cast.op_type != "Cast":
        return ids
    source = maker.get(cast.input[0])
    while source is not None and source.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Transpose"):
        source = maker.get(source.input[0])
    return ids if source is None or source.op_type != "ArgMax" else str(cast.input[0])


def _append_labels(
    model: Any,
    build: GraphBuilder,
    output: SegmentationOutput,
    height: int,
    width: int,
    id_count: int,
    labels: str,
) -> None:
    from onnx import TensorProto

    # Whole numbers up to 2^24 are exact in float, which every runtime resizes; TensorRT has uint8
    # at its inputs and outputs alone.
    tensor = build.node("Cast", [_uncast_ids(model, output.name)], to=TensorProto.FLOAT)
    grid = build.constant(np.array([1, 1, output.height, output.width], np.int64))
    tensor = build.node("Reshape", [tensor, grid])
    if (output.height, output.width) != (height, width):
        tensor = build.resize(
            tensor,
            [1, 1, height, width],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    below = build.node("Less", [tensor, build.constant(np.array(0, np.float32))])
    above = build.node("Greater", [tensor, build.constant(np.array(id_count - 1, np.float32))])
    outside = build.node("Or", [below, above])
    void = build.constant(np.array(VOID_ID, np.float32))
    tensor = build.node("Where", [outside, void, tensor])
    shape = build.constant(np.array([1, height, width], np.int64))
    tensor = build.node("Reshape", [tensor, shape])
    build.node("Cast", [tensor], output=labels, to=TensorProto.UINT8)


def guard_logits(model: Any, labels: str = LABELS, logit_mean: str = LOGIT_MEAN) -> bool:
    """Add the mean of the logits as a scalar output to a graph that ends in class ids.

    An argmax hides NaN and infinity: it always names some class. A mean does not: one such
    logit makes it NaN or infinite, in every precision (a sum would overflow FP16). It is
    taken before the upsampling, where it costs next to nothing.

    Args:
        model: the ``onnx.ModelProto`` whose output ``labels`` comes from an ArgMax.
        labels: name of that output.
        logit_mean: name of the output to add.

    Returns:
        False, with nothing changed, where no ArgMax leads to ``labels``.
    """
    from onnx import TensorProto, helper

    logits = _find_logits(model, labels)
    if logits is None:
        return False
    build = GraphBuilder(model, "guard")
    tensor = build.node("Cast", [logits], to=TensorProto.FLOAT)
    build.node("ReduceMean", [tensor], output=logit_mean, keepdims=0)
    build.insert_after()
    model.graph.output.append(helper.make_tensor_value_info(logit_mean, TensorProto.FLOAT, []))
    return True


def _find_logits(model: Any, labels: str) -> str | None:
    """Walk back from the class ids to the scores before ArgMax and upsampling."""
    maker = {name: node for node in model.graph.node for name in node.output}
    passing = {
        "Cast",
        "Identity",
        "Squeeze",
        "Unsqueeze",
        "Reshape",
        "Transpose",
        "Where",
        "Resize",
    }
    tensor = labels
    for _ in range(16):
        node = maker.get(tensor)
        if node is None:
            return None
        if node.op_type in ("ArgMax", "TopK"):
            tensor = str(node.input[0])
            break
        if node.op_type not in passing:
            return None
        tensor = str(node.input[2] if node.op_type == "Where" else node.input[0])
    else:
        return None
    return _before_enlarging(model, tensor)


def _before_enlarging(model: Any, tensor: str) -> str:
    """Return the scores that a tensor is an enlargement of, or its own name."""
    maker = {name: node for node in model.graph.node for name in node.output}
    while (node := maker.get(tensor)) is not None and node.op_type in (
        "Resize",
        "Upsample",
        "Transpose",
        "Identity",
    ):
        tensor = str(node.input[0])
    return tensor
