"""EfficientNet-Lite0 (Tan and Le 2019, Lite variant): encoder to stride 32.

No squeeze-excite, ReLU6 everywhere, the 1280-channel head left out. Padding is
TensorFlow's "same", which is what the published ImageNet weights expect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras import layers

from rtseg.models.layers import conv_bn, depthwise_bn

#: The Lite models see (RGB - 127) / 128.
MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)


@dataclass(frozen=True)
class Stage:
    """One group of inverted-residual blocks."""

    kernel: int
    stride: int
    expand: int
    filters: int
    repeats: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)
STEM_FILTERS = 32


def inverted_residual(
    x: Any, name: str, *, kernel: int, stride: int, expand: int, filters: int
) -> Any:
    """Expand, depthwise, linear projection; plus the input where shapes agree."""
    y = x
    channels = int(x.shape[-1])
    if expand != 1:
        y = conv_bn(y, channels * expand, f"{name}_expand")
    y = depthwise_bn(y, f"{name}_dw", kernel=kernel, stride=stride)
    y = conv_bn(y, filters, f"{name}_project", activation=None)
    if stride == 1 and channels == filters:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def lite0_encoder(x: Any) -> dict[int, Any]:
    """Build the encoder on normalised RGB (N, H, W, 3).

    Returns:
        Feature maps by stride: 4 (24 channels), 8 (40), 16 (112), 32 (320).
    """
    x = conv_bn(x, STEM_FILTERS, "stem", kernel=3, stride=2)
    features: dict[int, Any] = {}
    reached, index = 2, 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            x = inverted_residual(
                x,
                f"block{index}",
                kernel=stage.kernel,
                stride=stride,
                expand=stage.expand,
                filters=stage.filters,
            )
            index += 1
            reached *= stride
        features[reached] = x
    features.pop(2, None)
    return features
