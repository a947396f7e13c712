"""Casts to UINT8 as every TensorRT takes them: from floats.

TensorRT's description of its types allows UINT8 at a network's ends alone, made of and into
FLOAT and HALF; later versions take whole numbers as well. Class ids are exact in FLOAT.
"""

from __future__ import annotations

from typing import Any


def cast_through_float(model: Any) -> Any:
    """Return a network in which what is cast to UINT8 is FLOAT before.

    Args:
        model: an ``onnx.ModelProto``; it stays as it is.
    """
    from onnx import ModelProto, TensorProto, helper

    copy = ModelProto()
    copy.CopyFrom(model)
    nodes = copy.graph.node
    for position, node in reversed(list(enumerate(nodes))):
        if node.op_type != "Cast" or _target(node) != TensorProto.UINT8:
            continue
        floats = f"{node.output[0]}/float"
        cast = helper.make_node(
            "Cast", [node.input[0]], [floats], name=f"{node.name}/float", to=TensorProto.FLOAT
        )
        node.input[0] = floats
        nodes.insert(position, cast)
    return copy


def _target(cast: Any) -> int:
    return int(next(attribute.i for attribute in cast.attribute if attribute.name == "to"))
