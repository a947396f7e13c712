"""Quantise what a concatenation joins, not what it gives: OpenVINO is wrong about the latter."""

from __future__ import annotations

from collections import Counter
from typing import Any


def quantise_before_concat(model: Any, keep: frozenset[str] = frozenset()) -> int:
    """Move each QuantizeLinear behind a Concat to the Concat's inputs, in place.

    One scale for all makes both the same to the bit. OpenVINO 2026.4 computes an INT8
    convolution behind Concat, QuantizeLinear, DequantizeLinear wrongly on processors with AVX-512
    and without AMX: by a tenth of its output's power, whatever the channels and scales. With
    quantised inputs joined it is exact.

    Args:
        model: the ``onnx.ModelProto``.
        keep: names of tensors that must stay.

    Returns:
        How many were moved. Left alone is a Concat whose output is used otherwise, too, or is
        an output of the graph, and a scale for each channel.
    """
    graph = model.graph
    if not any(node.op_type == "QuantizeLinear" for node in graph.node):
        return 0
    joins = {node.output[0]: node for node in graph.node if node.op_type == "Concat"}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    uses.update(keep)
    single = {
        value.name for value in graph.initializer if len(value.dims) == 0 or value.dims == [1]
    }
    nodes: list[Any] = []
    moved = 0
    for node in graph.node:
        join = joins.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if join is None or uses[join.output[0]] != 1 or not single.issuperset(node.input[1:]):
            nodes.append(node)
            continue
        nodes.remove(join)
        nodes += _moved(join, node)
        moved += 1
    if moved:
        del graph.node[:]
        graph.node.extend(nodes)
    return moved


def _moved(join: Any, quantise: Any) -> list[Any]:
    from onnx import NodeProto

    parts = []
    for number, name in enumerate(join.input):
        part = NodeProto()
        part.CopyFrom(quantise)
        part.name = f"{quantise.name or quantise.output[0]}_part{number}"
        part.input[0] = name
        part.output[0] = f"{quantise.output[0]}_part{number}"
        parts.append(part)
    joined = NodeProto()
    joined.CopyFrom(join)
    del joined.input[:]
    joined.input.extend(part.output[0] for part in parts)
    joined.output[0] = quantise.output[0]
    return [*parts, joined]
