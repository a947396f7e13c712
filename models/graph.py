"""Walk a Keras functional model as a flat list of steps.

The exporter, the MAC count and the accelerated trainer all read a network from
here, so none of them depends on the framework that Keras happens to run on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rtseg.models.errors import ModelError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Step:
    """One layer applied once.

    Attributes:
        layer: the Keras layer.
        inputs: numbers of the tensors it reads, in order.
        output: number of the tensor it writes.
        shape: shape of that tensor, batch first (None where free).
    """

    layer: Any
    inputs: tuple[int, ...]
    output: int
    shape: tuple[int | None, ...]

    @property
    def kind(self) -> str:
        """Class name of the layer."""
        return type(self.layer).__name__


def steps_of(model: keras.Model) -> list[Step]:
    """Return the layers of a one-input, one-output functional model in order.

    The input layer is the first step and has no inputs.

    Raises:
        ModelError: the model is not functional, or has several inputs or outputs.
    """
    by_depth = getattr(model, "_nodes_by_depth", None)
    if by_depth is None:
        raise ModelError(f"{model.name} is no functional Keras model", reason="UNSUPPORTED_LAYER")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{model.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "exactly one of each is allowed",
            reason="UNSUPPORTED_LAYER",
        )
    numbers: dict[int, int] = {}
    steps: list[Step] = []
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            if len(node.outputs) != 1:
                raise ModelError(
                    f"layer {node.operation.name} has several outputs", reason="UNSUPPORTED_LAYER"
                )
            inputs = tuple(numbers[id(t)] for t in node.input_tensors)
            output = node.outputs[0]
            numbers[id(output)] = len(steps)
            steps.append(Step(node.operation, inputs, len(steps), tuple(output.shape)))
    if numbers[id(model.outputs[0])] != len(steps) - 1:
        raise ModelError(
            f"the output of {model.name} is not its last layer", reason="UNSUPPORTED_LAYER"
        )
    return steps


def unsupported(step: Step, purpose: str) -> ModelError:
    """The error for a layer that ``purpose`` cannot handle."""
    return ModelError(
        f"{purpose} cannot handle layer {step.layer.name!r} of type {step.kind}",
        reason="UNSUPPORTED_LAYER",
    )
