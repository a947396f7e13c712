"""Small changes to the names and shapes of an ``onnx.ModelProto``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rtseg.engines.errors import EngineError
from rtseg.engines.ports import ImageInput, SegmentationOutput


def with_prefix(
    model: Any, image: ImageInput, output: SegmentationOutput
) -> tuple[Any, ImageInput, SegmentationOutput]:
    """Rename every tensor, so that the names of our inputs and outputs are free."""
    from onnx import compose

    prefix = "network/"
    return (
        compose.add_prefix(model, prefix),
        replace(image, name=prefix + image.name),
        replace(output, name=prefix + output.name),
    )


def tensor_names(model: Any) -> set[str]:
    """Return every name that a tensor of the main graph has."""
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    return names | {value.name for value in model.graph.input}


def rename(model: Any, names: dict[str, str]) -> None:
    """Rename tensors of the main graph (no subgraph may see them).

    Raises:
        EngineError: a new name is taken.
    """
    names = {old: new for old, new in names.items() if old != new}
    if not names:
        return
    if taken := sorted(set(names.values()) & tensor_names(model)):
        raise EngineError(f"the network uses the name {taken[0]} twice", reason="ENGINE_DAMAGED")
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            for position, name in enumerate(tensors):
                tensors[position] = names.get(name, name)
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)


def find_value(values: Any, name: str) -> Any:
    """Return the input or output of this name."""
    return next(value for value in values if value.name == name)


def set_shape(value: Any, shape: tuple[int, ...]) -> None:
    """Give an input or output a known shape."""
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    for length in shape:
        tensor.shape.dim.add().dim_value = length
