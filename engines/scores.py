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
from rtseg.engines.ports import Layout, SegmentationOutput

_KEEPS_IDS = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_FLOATS = ("float32", "float16")


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
    maker = {name: node for node in model.graph.node for name in node.output}
    ids = output.name
    while (node := maker.get(ids)) is not None and node.op_type in _KEEPS_IDS:
        ids = str(node.input[0])
    layout = None if node is None else _layout_of_maximum(node, ids)
    if node is None or layout is None:
        return None
    scores = str(node.input[0])
    enlarging = maker.get(scores)
    settle_shapes(model, scores, *([] if enlarging is None else enlarging.input[:1]))
    known = (*model.graph.value_info, *model.graph.input)
    for port in onnxfile.ports_of(value for value in known if value.name == scores):
        if port.dtype not in _FLOATS or port.shape is None or len(port.shape) != 4:
            return None
        channels = port.shape[1 if layout == "nchw" else 3]
        rows, columns = port.shape[2:] if layout == "nchw" else port.shape[1:3]
        if (rows, columns) == (output.height, output.width) and 2 <= (channels or 0) <= VOID_ID:
            return replace(
                output,
                name=port.name,
                dtype=port.dtype,
                kind="logits",
                layout=layout,
                channels=channels or 0,
            )
    return None


def _layout_of_maximum(node: Any, ids: str) -> Layout | None:
    """Return where the channels are that a node takes the first maximum of; None for others."""
    from onnx import helper

    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    layouts: dict[int, Layout] = {1: "nchw", 3: "nhwc"}
    if node.op_type == "ArgMax" and not attributes.get("select_last_index", 0):
        return layouts.get(attributes.get("axis", 0) % 4)
    if node.op_type == "TopK" and attributes.get("largest", 1) and ids == node.output[1]:
        return layouts.get(attributes.get("axis", -1) % 4)
    return None
