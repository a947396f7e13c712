"""The scores that a network takes its class ids from, where it ends in an argmax of its own.

With them class ids come from enlarged scores instead of enlarged ids, an engine can see scores
that are no numbers, and the enlargement can be computed as we do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rtseg.engines import onnxfile
from rtseg.engines.inner_shapes import settle_shapes
from rtseg.engines.labels import VOID_ID
from rtseg.engines.ports import SegmentationOutput, score_layout

_KEEPS_IDS = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_FLOATS = ("float32", "float16")


def ids_in_floats(model: Any, output: SegmentationOutput) -> SegmentationOutput:
    """Return an output as class ids where it is an argmax cast to floats, else as it is.

    Args:
        model: the ``onnx.ModelProto``.
        output: scores, maybe; such ids look like a single score a pixel.
    """
    if output.channels == 1 and _maximum_behind(model, output.name) is not None:
        return replace(output, kind="labels", channels=0)
    return output


def scores_behind(model: Any, output: SegmentationOutput) -> SegmentationOutput | None:
    """Return the output that an argmax (or a TopK of one) makes class ids of.

    Args:
        model: the ``onnx.ModelProto``, its shapes inferred; those of the scores, and of what they
            are an enlargement of, are added where ONNX could not tell them.
        output: class ids.

    Returns:
        The scores, of the same grid; None where the ids come from anything but the first maximum
        of at least two channels.
    """
    if output.kind != "labels":
        return None
    node = _maximum_behind(model, output.name)
    if node is None:
        return None
    scores = str(node.input[0])
    maker = {name: node for node in model.graph.node for name in node.output}
    enlarging = maker.get(scores)
    settle_shapes(model, scores, *([] if enlarging is None else enlarging.input[:1]))
    known = (*model.graph.value_info, *model.graph.input)
    for port in onnxfile.ports_of(value for value in known if value.name == scores):
        if port.dtype not in _FLOATS or port.shape is None:
            return None
        axes = len(port.shape)
        layout = score_layout(axes, _axis_of(node))
        if layout is None:
            return None
        channels, rows, columns = (
            port.shape[-3:] if layout == "nchw" else (port.shape[-1], *port.shape[-3:-1])
        )
        if (rows, columns) == (output.height, output.width) and 2 <= (channels or 0) <= VOID_ID:
            return replace(
                output,
                name=port.name,
                dtype=port.dtype,
                kind="logits",
                layout=layout,
                channels=channels or 0,
                axes=axes,
            )
    return None


def _maximum_behind(model: Any, ids: str) -> Any | None:
    """Return the node whose first maxima class ids are, or None."""
    from onnx import helper

    maker = {name: node for node in model.graph.node for name in node.output}
    while (node := maker.get(ids)) is not None and _keeps_ids(node):
        ids = str(node.input[0])
    if node is None:
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    first = node.op_type == "ArgMax" and not attributes.get("select_last_index", 0)
    largest = node.op_type == "TopK" and attributes.get("largest", 1) and ids == node.output[1]
    return node if first or largest else None


def _keeps_ids(node: Any) -> bool:
    """Tell whether a node gives the class ids that it takes; as one of a batch, too."""
    return node.op_type in _KEEPS_IDS or (node.op_type == "Gather" and _axis_of(node) == 0)


def _axis_of(node: Any) -> int:
    """Return the axis of an ArgMax, TopK or Gather, counted from the last one where below zero."""
    from onnx import helper

    default = -1 if node.op_type == "TopK" else 0
    return next(
        (int(helper.get_attribute_value(a)) for a in node.attribute if a.name == "axis"), default
    )
