"""Fast-SCNN (Poudel, Liwicki and Cipolla 2019, arXiv:1902.04502).

Learning to downsample (stride 8), inverted residuals to stride 32, pyramid pooling,
fusion of both resolutions, classifier. As in the paper's tables 1 to 3: no
non-linearity between a depthwise and its pointwise convolution outside the inverted
residuals, logits at an eighth of the input.

Parameters: 1.11 M in the paper, 1.12 M here. The pyramid is where it leaves room: its
branches have 32 channels each (bins 1, 2, 3, 6), and the single bin a bias instead of
BatchNorm, which INT8 needs.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from rtseg.models.efficientnet import MEAN, STD
from rtseg.models.layers import (
    activate,
    batch_norm,
    conv_bn,
    depthwise_bn,
    frames_input,
    normalise,
    pyramid_pooling,
    resize_like,
)

EXPAND = 6
#: Bottleneck stages: channels and stride of the first of three repeats.
BOTTLENECKS = ((64, 2), (96, 2), (128, 1))
REPEATS = 3
HEAD_FILTERS = 128
PYRAMID_FILTERS = 32
DROPOUT = 0.1


def _separable(x: Any, filters: int, name: str, *, stride: int = 1) -> Any:
    """Depthwise and pointwise convolution without a non-linearity between them."""
    x = depthwise_bn(x, f"{name}_dw", stride=stride, activation=None)
    return conv_bn(x, filters, f"{name}_pw", activation="relu")


def _bottleneck(x: Any, filters: int, name: str, *, stride: int) -> Any:
    """Inverted residual of MobileNetV2; its last convolution is linear."""
    channels = int(x.shape[-1])
    y = conv_bn(x, channels * EXPAND, f"{name}_expand", activation="relu")
    y = depthwise_bn(y, f"{name}_dw", stride=stride, activation="relu")
    y = conv_bn(y, filters, f"{name}_project", activation=None)
    if stride == 1 and channels == filters:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def build_fast_scnn(height: int = 512, width: int = 512, classes: int = 19) -> keras.Model:
    """Build Fast-SCNN.

    Args:
        height, width: input size in pixels, multiples of 32.
        classes: number of output channels.

    Returns:
        Model from RGB 0..255 float32 (N, height, width, 3) to logits
        (N, height / 8, width / 8, classes).

    Raises:
        ModelError: the size is not a multiple of 32.
    """
    frames = frames_input(height, width)
    x = normalise(frames, MEAN, STD)
    x = conv_bn(x, 32, "down1", kernel=3, stride=2, activation="relu")
    x = _separable(x, 48, "down2", stride=2)
    fine = _separable(x, 64, "down3", stride=2)

    x, index = fine, 0
    for filters, first_stride in BOTTLENECKS:
        for repeat in range(REPEATS):
            stride = first_stride if repeat == 0 else 1
            x = _bottleneck(x, filters, f"bottleneck{index}", stride=stride)
            index += 1
    x = pyramid_pooling(x, PYRAMID_FILTERS, activation="relu")
    x = conv_bn(x, HEAD_FILTERS, "context", activation="relu")

    x = resize_like(x, fine, "fuse_up")
    # The kernel is spread by the upsampling factor, as table 3 of the paper has it.
    x = layers.DepthwiseConv2D(
        3,
        padding="same",
        dilation_rate=4,
        use_bias=False,
        depthwise_initializer="he_normal",
        name="fuse_dw",
    )(x)
    x = activate(batch_norm(x, "fuse_dw_bn"), "relu", "fuse_dw_act")
    x = conv_bn(x, HEAD_FILTERS, "fuse_pw", activation=None)
    skip = conv_bn(fine, HEAD_FILTERS, "fuse_skip", activation=None)
    x = activate(layers.Add(name="fuse_add")([x, skip]), "relu", "fuse_act")

    x = _separable(x, HEAD_FILTERS, "classify1")
    x = _separable(x, HEAD_FILTERS, "classify2")
    x = layers.Dropout(DROPOUT, name="dropout")(x)
    logits = layers.Conv2D(classes, 1, name="logits", dtype="float32")(x)
    return keras.Model(frames, logits, name="fast-scnn")
