"""Cuts the enlargement of the scores off a network, for whoever computes it more cheaply."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rtseg.engines.graph import LABELS, SCORES
from rtseg.engines.graph_builder import GraphBuilder

# PyTorch's differs where the result is one row or column: never, in twice as many as there were.
_HALF_PIXEL = (b"half_pixel", b"pytorch_half_pixel")
_ALIGNED = b"align_corners"


class Enlargement(NamedTuple):
    """What :class:`rtseg.engines.upsample.LabelUpsampler` takes, in its order."""

    rows: int
    columns: int
    height: int
    width: int
    aligned: bool


def cut_upsampling(model: Any, labels: str = LABELS) -> Enlargement | None:
    """Let a graph end in its small scores instead of class ids, where that is simple.

    Simple is what :func:`rtseg.engines.graph.append_tail`, our export and PyTorch's write: Resize
    (linear, half-pixel or with aligned corners, to at least twice the rows and columns), ArgMax
    over the channels, Cast. Whoever runs the graph then does the rest with
    :class:`rtseg.engines.upsample.LabelUpsampler`.

    Args:
        model: the ``onnx.ModelProto``; its output ``labels`` becomes ``scores``, float32,
            1×C×rows×columns.
        labels: name of the output.

    Returns:
        What is left to be done; None, with nothing changed, where the graph ends in another way.
    """
    from onnx import TensorProto, helper, shape_inference

    resize = _upsampling_before(model, labels)
    if resize is None:
        return None
    scores = str(resize.input[0])
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    small = _known_shape(inferred, scores)
    large = _known_shape(inferred, str(resize.output[0]))
    if small is None or large is None or len(small) != 4 or small[:2] != large[:2]:
        return None
    (_, channels, rows, columns), (height, width) = small, large[2:]
    if height < 2 * rows or width < 2 * columns:
        return None
    aligned = _coordinates(resize) == _ALIGNED
    if not aligned and not _fits_whole(model, resize, small, large):
        return None
    if SCORES in {name for node in model.graph.node for name in (*node.input, *node.output)}:
        return None
    build = GraphBuilder(model, "scores")
    build.node("Cast", [scores], output=SCORES, to=TensorProto.FLOAT)
    build.insert_after()
    kept = [value for value in model.graph.output if value.name != labels]
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, [1, channels, rows, columns])
    )
    model.graph.output.extend(kept)
    return Enlargement(rows, columns, height, width, aligned)


def _fits_whole(model: Any, resize: Any, small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Tell whether a Resize maps its whole input to its whole output.

    By another scale than that of the sizes, it may leave out a part of a row: half-pixel
    coordinates go by the scale.
    """
    if len(resize.input) > 3 and resize.input[3]:
        return True  # sizes: the scale is their quotient
    scales = _constant(model, str(resize.input[2])) if len(resize.input) > 2 else None
    wanted = np.asarray(large) / np.asarray(small)
    return (
        scales is not None
        and scales.shape == wanted.shape
        and bool(np.abs(scales / wanted - 1).max() < 1e-6)
    )


def _constant(model: Any, name: str) -> np.ndarray[Any, Any] | None:
    """Return the value of a weight or of a Constant's tensor."""
    from onnx import numpy_helper

    for weight in model.graph.initializer:
        if weight.name == name:
            return np.asarray(numpy_helper.to_array(weight))
    for node in model.graph.node:
        if node.op_type == "Constant" and name in node.output and node.attribute[0].name == "value":
            return np.asarray(numpy_helper.to_array(node.attribute[0].t))
    return None


def _upsampling_before(model: Any, labels: str) -> Any | None:
    """Return the Resize of a tail Resize → ArgMax → Cast, or None for another tail."""
    from onnx import helper

    maker = {name: node for node in model.graph.node for name in node.output}
    chain = []
    tensor = labels
    for op_type in ("Cast", "ArgMax", "Resize"):
        node = maker.get(tensor)
        if node is None or node.op_type != op_type:
            return None
        chain.append(node)
        tensor = str(node.input[0])
    _, argmax, resize = (
        {a.name: helper.get_attribute_value(a) for a in node.attribute} for node in chain
    )
    plain = (
        argmax.get("axis", 0) == 1
        and not argmax.get("keepdims", 1)
        and not argmax.get("select_last_index", 0)
        and resize.get("mode") == b"linear"
        and _coordinates(chain[2]) in (*_HALF_PIXEL, _ALIGNED)
        and not resize.get("antialias", 0)
        and "axes" not in resize
        and resize.get("keep_aspect_ratio_policy", b"stretch") == b"stretch"
    )
    return chain[2] if plain else None


def _coordinates(resize: Any) -> bytes:
    from onnx import helper

    attributes = {a.name: helper.get_attribute_value(a) for a in resize.attribute}
    mode: bytes = attributes.get("coordinate_transformation_mode", b"half_pixel")
    return mode


def _known_shape(graph: Any, tensor: str) -> tuple[int, ...] | None:
    for value in (*graph.value_info, *graph.output, *graph.input):
        if value.name == tensor:
            shape = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
            return shape if shape and all(shape) else None
    return None
