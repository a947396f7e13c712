"""EfficientNet (Tan and Le 2019): MBConv, squeeze-excite, swish; encoder to stride 32.

Widths and depths of B0, scaled as the paper scales B1 and B2; without the last
1x1 convolution, which belongs to the classifier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from keras import layers

from rtseg.models.layers import conv_bn, depthwise_bn
from rtseg.models.lite0 import STAGES, STEM_FILTERS

#: ImageNet mean and deviation of RGB in 0..255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
SQUEEZE = 0.25


@dataclass(frozen=True)
class Scaling:
    """How one member of the family is scaled."""

    width: float
    depth: float


B0 = Scaling(1.0, 1.0)
B1 = Scaling(1.0, 1.1)
B2 = Scaling(1.1, 1.2)


def scaled_filters(filters: int, width: float) -> int:
    """Scale a channel count and round it to a multiple of 8, by at most 10 % down."""
    wanted = filters * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def scaled_repeats(repeats: int, depth: float) -> int:
    """Scale a number of blocks, rounding up."""
    return math.ceil(depth * repeats)


def squeeze_excite(x: Any, reduced: int, name: str) -> Any:
    """Weigh the channels of ``x`` by a small network on their means."""
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    y = conv_bn(y, reduced, f"{name}_reduce", activation="swish", norm=False)
    y = conv_bn(y, int(x.shape[-1]), f"{name}_expand", activation="sigmoid", norm=False)
    return layers.Multiply(name=f"{name}_excite")([x, y])


def mbconv(x: Any, name: str, *, kernel: int, stride: int, expand: int, filters: int) -> Any:
    """One inverted residual with squeeze-excite."""
    channels = int(x.shape[-1])
    y = x
    if expand != 1:
        y = conv_bn(y, channels * expand, f"{name}_expand", activation="swish")
    y = depthwise_bn(y, f"{name}_dw", kernel=kernel, stride=stride, activation="swish")
    y = squeeze_excite(y, max(1, int(channels * SQUEEZE)), f"{name}_se")
    y = conv_bn(y, filters, f"{name}_project", activation=None)
    if stride == 1 and channels == filters:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def efficientnet_encoder(x: Any, scaling: Scaling = B0) -> dict[int, Any]:
    """Build the encoder on normalised RGB (N, H, W, 3).

    Returns:
        Feature maps by stride: 4, 8, 16, 32 (B0: 24, 40, 112, 320 channels).
    """
    stem = scaled_filters(STEM_FILTERS, scaling.width)
    x = conv_bn(x, stem, "stem", kernel=3, stride=2, activation="swish")
    features: dict[int, Any] = {}
    reached, index = 2, 0
    for stage in STAGES:
        for repeat in range(scaled_repeats(stage.repeats, scaling.depth)):
            stride = stage.stride if repeat == 0 else 1
            x = mbconv(
                x,
                f"block{index}",
                kernel=stage.kernel,
                stride=stride,
                expand=stage.expand,
                filters=scaled_filters(stage.filters, scaling.width),
            )
            index += 1
            reached *= stride
        features[reached] = x
    features.pop(2, None)
    return features
