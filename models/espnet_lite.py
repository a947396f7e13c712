"""espnet-lite: final ESPNet's idea on an EfficientNet-Lite0 encoder.

Half of the reference network's work is its head, because it widens before it
narrows at a quarter of the input size. Here the pyramid is projected at stride
32, and each step up adds one linear 1x1 projection of the encoder's map of that
size, so the head costs a tenth of the encoder. ReLU6, plain additions, BatchNorm
that folds away: made for INT8.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from rtseg.models.layers import (
    activate,
    conv_bn,
    frames_input,
    normalise,
    pyramid_pooling,
    resize_like,
    separable,
)
from rtseg.models.lite0 import MEAN, STD, lite0_encoder

#: Widths of the head at strides 32 and 16, 8, and 4.
WIDTHS = (128, 96, 64)
PYRAMID_FILTERS = 64
DROPOUT = 0.1


def _merge(x: Any, skip: Any, filters: int, name: str) -> Any:
    """Bring ``x`` to the size of ``skip`` and add its 1x1 projection."""
    x = resize_like(x, skip, f"{name}_up")
    skip = conv_bn(skip, filters, f"{name}_skip", activation=None)
    return activate(layers.Add(name=f"{name}_add")([x, skip]), "relu6", f"{name}_act")


def build_espnet_lite(
    height: int = 512,
    width: int = 512,
    classes: int = 19,
    *,
    widths: tuple[int, int, int] = WIDTHS,
) -> keras.Model:
    """Build espnet-lite.

    Args:
        height, width: input size in pixels, multiples of 32.
        classes: number of output channels.
        widths: channels of the head at strides 32 and 16, 8, and 4.

    Returns:
        Model from RGB 0..255 float32 (N, height, width, 3) to logits
        (N, height / 4, width / 4, classes).

    Raises:
        ModelError: the size is not a multiple of 32.
    """
    frames = frames_input(height, width)
    features = lite0_encoder(normalise(frames, MEAN, STD))

    deep, middle, narrow = widths
    x = pyramid_pooling(features[32], PYRAMID_FILTERS)
    x = conv_bn(x, deep, "neck")
    x = separable(_merge(x, features[16], deep, "merge16"), middle, "refine16")
    x = separable(_merge(x, features[8], middle, "merge8"), narrow, "refine8")
    x = separable(_merge(x, features[4], narrow, "merge4"), narrow, "refine4")
    x = layers.SpatialDropout2D(DROPOUT, name="dropout")(x)
    logits = layers.Conv2D(classes, 1, name="logits", dtype="float32")(x)
    return keras.Model(frames, logits, name="espnet-lite")
