"""ESPNet (Singha et al. 2020), base and final, on EfficientNet B0, B1 or B2.

Written from the paper's figures. This is not the ESPNet of Mehta et al. (2018).

Both: encoder to stride 32, pyramid pooling to bins 1, 2, 3, 6 of 80 channels each,
concatenated with the encoder's output. Base: upsample by 8, two separable 3x3
convolutions of 128 channels, 1x1 to the classes. Final: after the upsampling a
depthwise and a 1x1 convolution (128), plus a 1x1 projection of the stride-4 stage,
BatchNorm, ReLU, then the same classifier with dropout 0.3.

At 512x512 every tensor has the size the paper gives; the last upsampling by 4 is left
to the export, which adds it to every network alike.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from rtseg.models.efficientnet import B0, B1, B2, MEAN, STD, efficientnet_encoder
from rtseg.models.layers import (
    activate,
    batch_norm,
    conv_bn,
    depthwise_bn,
    frames_input,
    normalise,
    pyramid_pooling,
    resize_like,
    separable,
)

SCALINGS = {"s0": B0, "s1": B1, "s2": B2}
PYRAMID_FILTERS = 80
HEAD_FILTERS = 128
DROPOUT = 0.3


def _classifier(x: Any, classes: int, *, dropout: float) -> Any:
    x = separable(x, HEAD_FILTERS, "classify1", activation="relu")
    x = separable(x, HEAD_FILTERS, "classify2", activation="relu")
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return layers.Conv2D(classes, 1, name="logits", dtype="float32")(x)


def build_espnet(
    height: int = 512,
    width: int = 512,
    classes: int = 19,
    *,
    variant: str = "s0",
    final: bool = True,
) -> keras.Model:
    """Build base or final ESPNet.

    Args:
        height, width: input size in pixels, multiples of 32.
        classes: number of output channels.
        variant: ``s0``, ``s1`` or ``s2``: the encoder's scaling.
        final: the final network with the skip from stride 4; else the base network.

    Returns:
        Model from RGB 0..255 float32 (N, height, width, 3) to logits
        (N, height / 4, width / 4, classes).

    Raises:
        ModelError: the size is not a multiple of 32.
    """
    frames = frames_input(height, width)
    features = efficientnet_encoder(normalise(frames, MEAN, STD), SCALINGS[variant])
    x = pyramid_pooling(features[32], PYRAMID_FILTERS, activation="relu")
    x = resize_like(x, features[4], "up8")
    if final:
        x = depthwise_bn(x, "fuse_dw", activation="relu")
        x = conv_bn(x, HEAD_FILTERS, "fuse_pw", activation=None, norm=False)
        skip = conv_bn(features[4], HEAD_FILTERS, "fuse_skip", activation=None, norm=False)
        x = layers.Add(name="fuse_add")([x, skip])
        x = activate(batch_norm(x, "fuse_bn"), "relu", "fuse_act")
    logits = _classifier(x, classes, dropout=DROPOUT if final else 0.0)
    name = f"espnet-{variant}" if final else f"espnet-base-{variant}"
    return keras.Model(frames, logits, name=name)
