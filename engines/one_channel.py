"""Networks of two classes that give one score a pixel: a road or not, a sky or not.

Such a score becomes two, so that everything behind it, argmax included, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rtseg.engines.errors import EngineError
from rtseg.engines.ports import SegmentationOutput
from rtseg.engines.sidecar import Sidecar, sidecar_path

PROBABILITY_THRESHOLD = 0.5

_PROBABILITIES = {"Sigmoid", "HardSigmoid"}
# What leaves the meaning of a value as it is: names of ONNX and of OpenVINO.
_PASSING = {
    "Cast",
    "Convert",
    "ConvertLike",
    "DequantizeLinear",
    "FakeQuantize",
    "Gather",
    "Identity",
    "Interpolate",
    "QuantizeLinear",
    "Reshape",
    "Resize",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Upsample",
}


def natural_threshold(operations: Iterable[str]) -> float | None:
    """Return 0.5 where a score is a probability, which it is behind a sigmoid; else None.

    Args:
        operations: kinds of the operations that lead to the score, the last one first, each
            followed by the one that gives its first input.
    """
    for kind in operations:
        if kind in _PROBABILITIES:
            return PROBABILITY_THRESHOLD
        if kind not in _PASSING:
            break
    return None


def choose_threshold(
    note: Sidecar, output: SegmentationOutput, operations: Iterable[str], path: Path
) -> float:
    """Return the score above which a pixel is the second class, for an output of one channel.

    Args:
        operations: as :func:`natural_threshold` reads them.

    Raises:
        EngineError: the note gives a threshold to a network of more channels, or nothing tells
            that a single channel is a score and no depth.
    """
    if output.channels == 1:
        if note.threshold is not None:
            return note.threshold
        natural = natural_threshold(operations)
        if natural is None and note.classes is None and note.output is None:
            raise EngineError(
                f"{output.name} has one channel and does not end in a sigmoid. If it is the score "
                f"of one of two classes, say so in {sidecar_path(path).name}: "
                '{"classes": ["other", "road"], "threshold": 0}',
                reason="ENGINE_UNSUPPORTED",
            )
        return 0.0 if natural is None else natural
    if note.threshold is not None:
        raise EngineError(
            f"{sidecar_path(path)}: threshold is for an output of one channel; "
            f"{output.name} has {output.channels or 'class ids'}",
            reason="BAD_INPUT",
        )
    return 0.0


def onnx_operations(model: Any, tensor: str) -> Iterator[str]:
    """Yield what :func:`natural_threshold` reads, of an ``onnx.ModelProto``."""
    maker = {name: node for node in model.graph.node for name in node.output}
    while (node := maker.get(tensor)) is not None and node.input:
        yield str(node.op_type)
        tensor = str(node.input[0])


def openvino_operations(node: Any) -> Iterator[str]:
    """Yield the same of an OpenVINO network, from the node that gives the score."""
    while node.get_input_size():
        yield str(node.get_type_name())
        node = node.input_value(0).get_node()
