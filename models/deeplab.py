"""DeepLabV3+ on the modified Xception-65 (Chen et al. 2018, arXiv:1802.02611).

Xception deeper, max-pooling replaced by strided separable convolutions, BatchNorm and
ReLU after each depthwise convolution; output stride 16, the last three convolutions
dilated by 2. Atrous pyramid: 1x1, separable 3x3 with rates 6, 12 and 18, mean of the
image, 256 channels each. Decoder: upsampled by 4, joined with 48 channels of the
stride-4 map, two separable convolutions of 256.

Parameters: about 41 M published for this backbone (41.05 M trainable in its release for
21 classes), 41.26 M here with the BatchNorm statistics. The branch of the image's mean
has a bias instead of BatchNorm, which INT8 needs.
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
    frames_input,
    normalise,
    resize_like,
)

MIDDLE_BLOCKS = 16
PYRAMID_FILTERS = 256
RATES = (6, 12, 18)
SKIP_FILTERS = 48
DECODER_FILTERS = 256
DROPOUT = 0.1


def _separable(
    x: Any,
    filters: int,
    name: str,
    *,
    stride: int = 1,
    rate: int = 1,
    activation: bool = True,
) -> Any:
    """Depthwise 3x3, BatchNorm, ReLU, pointwise, BatchNorm and, if asked, ReLU."""
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding="same",
        dilation_rate=rate,
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_dw",
    )(x)
    x = activate(batch_norm(x, f"{name}_dw_bn"), "relu", f"{name}_dw_act")
    return conv_bn(x, filters, f"{name}_pw", activation="relu" if activation else None)


def _block(
    x: Any,
    filters: tuple[int, int, int],
    name: str,
    *,
    stride: int = 1,
    rate: int = 1,
    project: bool = True,
) -> tuple[Any, Any]:
    """Three separable convolutions beside a shortcut.

    Returns:
        The sum, and the output of the second convolution (before the stride).
    """
    y, second = x, x
    for number, width in enumerate(filters):
        y = activate(y, "relu", f"{name}_{number}_pre")
        last = number == len(filters) - 1
        y = _separable(
            y,
            width,
            f"{name}_{number}",
            stride=stride if last else 1,
            rate=rate,
            activation=False,
        )
        if number == 1:
            second = y
    shortcut = x
    if project:
        shortcut = conv_bn(x, filters[-1], f"{name}_short", stride=stride, activation=None)
    return layers.Add(name=f"{name}_add")([y, shortcut]), second


def xception65(x: Any) -> tuple[Any, Any]:
    """Build the backbone on normalised RGB (N, H, W, 3).

    Returns:
        The map at stride 16 (2048 channels) and the one at stride 4 (256 channels).
    """
    x = conv_bn(x, 32, "entry_conv1", kernel=3, stride=2, activation="relu")
    x = conv_bn(x, 64, "entry_conv2", kernel=3, activation="relu")
    x, _ = _block(x, (128, 128, 128), "entry1", stride=2)
    x, fine = _block(x, (256, 256, 256), "entry2", stride=2)
    x, _ = _block(x, (728, 728, 728), "entry3", stride=2)
    for number in range(MIDDLE_BLOCKS):
        x, _ = _block(x, (728, 728, 728), f"middle{number}", project=False)
    x, _ = _block(x, (728, 1024, 1024), "exit1")
    x = activate(x, "relu", "exit1_act")
    for number, width in enumerate((1536, 1536, 2048)):
        x = _separable(x, width, f"exit2_{number}", rate=2)
    return x, activate(fine, "relu", "fine_act")


def _atrous_pyramid(x: Any) -> Any:
    branches = [conv_bn(x, PYRAMID_FILTERS, "aspp_1x1", activation="relu")]
    branches += [_separable(x, PYRAMID_FILTERS, f"aspp_{rate}", rate=rate) for rate in RATES]
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_mean")(x)
    mean = conv_bn(mean, PYRAMID_FILTERS, "aspp_mean_conv", activation="relu", norm=False)
    branches.append(resize_like(mean, x, "aspp_mean_up"))
    x = layers.Concatenate(name="aspp_concat")(branches)
    x = conv_bn(x, PYRAMID_FILTERS, "aspp_project", activation="relu")
    return layers.Dropout(DROPOUT, name="aspp_dropout")(x)


def build_deeplab(height: int = 512, width: int = 512, classes: int = 19) -> keras.Model:
    """Build DeepLabV3+ on Xception-65.

    Args:
        height, width: input size in pixels, multiples of 32.
        classes: number of output channels.

    Returns:
        Model from RGB 0..255 float32 (N, height, width, 3) to logits
        (N, height / 4, width / 4, classes).

    Raises:
        ModelError: the size is not a multiple of 32.
    """
    frames = frames_input(height, width)
    deep, fine = xception65(normalise(frames, MEAN, STD))
    x = resize_like(_atrous_pyramid(deep), fine, "decode_up")
    skip = conv_bn(fine, SKIP_FILTERS, "decode_skip", activation="relu")
    x = layers.Concatenate(name="decode_concat")([x, skip])
    x = _separable(x, DECODER_FILTERS, "decode1")
    x = _separable(x, DECODER_FILTERS, "decode2")
    logits = layers.Conv2D(classes, 1, name="logits", dtype="float32")(x)
    return keras.Model(frames, logits, name="deeplabv3plus")
