"""How large a network is: parameters and multiply-accumulates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtseg.models.graph import Step, steps_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Size:
    """Size of a network.

    Attributes:
        name: of the network.
        parameters: all weights, BatchNorm statistics included.
        trainable: those that training changes by gradient.
        macs: multiply-accumulates of the convolutions for one frame, without the last
            upsampling.
    """

    name: str
    parameters: int
    trainable: int
    macs: int


def step_macs(step: Step) -> int:
    """Multiply-accumulates of one step for one frame; only convolutions count."""
    if step.kind not in ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose"):
        return 0
    kernel = step.layer.get_weights()[0].shape
    _, height, width, channels = step.shape
    assert height is not None
    assert width is not None
    assert channels is not None
    if step.kind == "DepthwiseConv2D":
        return int(height * width * channels * kernel[0] * kernel[1])
    return int(height * width * math.prod(kernel))


def measure(model: keras.Model) -> Size:
    """Count parameters and multiply-accumulates of a model with a fixed input size."""
    return Size(
        name=str(model.name),
        parameters=int(model.count_params()),
        trainable=int(sum(math.prod(w.shape) for w in model.trainable_weights)),
        macs=sum(step_macs(step) for step in steps_of(model)),
    )
