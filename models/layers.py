"""Building blocks that every network of this room shares.

All blocks work on channels-last tensors (N, H, W, C) and use only layers that
``rtseg.models.graph`` knows how to walk, so each network built from them can be
counted, exported to ONNX and trained by the accelerated trainer.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers

from rtseg.models.errors import ModelError

Activation = Literal["relu", "relu6", "swish", "sigmoid"] | None

#: BatchNorm constants of the TensorFlow EfficientNets (Tan and Le 2019).
BN_EPSILON = 1e-3
BN_MOMENTUM = 0.97

STRIDE = 32


@keras.saving.register_keras_serializable(package="rtseg")
class Resize(layers.Layer):  # type: ignore[misc]
    """Bilinear resize with half-pixel centres to a fixed size.

    ``keras.layers.Resizing`` leaks ``training=True`` into the layers behind it
    when a model is exported, hence this thin layer over ``keras.ops``.

    Args:
        height: output rows.
        width: output columns.
    """

    def __init__(self, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height = int(height)
        self.width = int(width)

    def call(self, inputs: Any) -> Any:
        """Resize float (N, H, W, C) to (N, height, width, C)."""
        return keras.ops.image.resize(
            inputs,
            (self.height, self.width),
            interpolation="bilinear",
            antialias=False,
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape (N, height, width, C)."""
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for Keras' serialisation."""
        return {**super().get_config(), "height": self.height, "width": self.width}


def check_input_size(height: int, width: int) -> None:
    """Raise `ModelError` unless both sides are positive multiples of 32."""
    if height <= 0 or width <= 0 or height % STRIDE or width % STRIDE:
        raise ModelError(
            f"input size {height}x{width} (height x width) is not allowed; "
            f"both must be positive multiples of {STRIDE}",
            reason="BAD_CONFIG",
        )


def frames_input(height: int, width: int) -> Any:
    """Input ``frames``: RGB values 0..255 as float32 (N, height, width, 3)."""
    check_input_size(height, width)
    return keras.Input((height, width, 3), name="frames", dtype="float32")


def normalise(x: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    """Subtract ``mean`` and divide by ``std`` (both in 0..255 units, RGB)."""
    scale = [1.0 / s for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return layers.Rescaling(scale, offset, name="normalise")(x)


def activate(x: Any, activation: Activation, name: str) -> Any:
    """Apply a named activation; None leaves ``x`` as it is."""
    if activation is None:
        return x
    if activation == "relu6":
        return layers.ReLU(max_value=6.0, name=name)(x)
    return layers.Activation({"swish": "silu"}.get(activation, activation), name=name)(x)


def batch_norm(x: Any, name: str) -> Any:
    """BatchNorm over channels with the constants of the EfficientNets."""
    return layers.BatchNormalization(epsilon=BN_EPSILON, momentum=BN_MOMENTUM, name=name)(x)


def conv_bn(
    x: Any,
    filters: int,
    name: str,
    *,
    kernel: int = 1,
    stride: int = 1,
    activation: Activation = "relu6",
    norm: bool = True,
) -> Any:
    """Convolution, BatchNorm, activation: ``name``, ``name_bn``, ``name_act``.

    Without ``norm`` the convolution has a bias instead of the BatchNorm.
    """
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=not norm,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if norm:
        x = batch_norm(x, f"{name}_bn")
    return activate(x, activation, f"{name}_act")


def depthwise_bn(
    x: Any, name: str, *, kernel: int = 3, stride: int = 1, activation: Activation = "relu6"
) -> Any:
    """Depthwise convolution, BatchNorm, activation."""
    x = layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=name,
    )(x)
    return activate(batch_norm(x, f"{name}_bn"), activation, f"{name}_act")


def separable(x: Any, filters: int, name: str, *, activation: Activation = "relu6") -> Any:
    """Depthwise 3x3 and pointwise convolution, each with BatchNorm and activation."""
    x = depthwise_bn(x, f"{name}_dw", activation=activation)
    return conv_bn(x, filters, f"{name}_pw", activation=activation)


def resize_like(x: Any, reference: Any, name: str) -> Any:
    """Resize ``x`` to the rows and columns of ``reference``.

    The layer is there even where the sizes agree: Keras stores weights in the order of
    the layers, which must not depend on the input size.
    """
    return Resize(int(reference.shape[1]), int(reference.shape[2]), name=name)(x)


def pool_to_bins(x: Any, bins: int, name: str) -> Any:
    """Average-pool (N, H, W, C) to (N, bins, bins, C) with one static window.

    The stride is H // bins and the window is what is left for the last step, so
    the windows cover every row and column of any H. On a map smaller than
    ``bins`` there are as many bins as rows or columns.
    """
    height, width = int(x.shape[1]), int(x.shape[2])
    rows, columns = min(bins, height), min(bins, width)
    strides = (height // rows, width // columns)
    window = (height - (rows - 1) * strides[0], width - (columns - 1) * strides[1])
    return layers.AveragePooling2D(window, strides=strides, padding="valid", name=name)(x)


def pyramid_pooling(
    x: Any,
    filters: int,
    *,
    bins: tuple[int, ...] = (1, 2, 3, 6),
    activation: Activation = "relu6",
    name: str = "ppm",
) -> Any:
    """Pyramid pooling (Zhao et al. 2017): pool, convolve, resize, concatenate.

    The branch of a single bin has no BatchNorm: its statistics over a small
    batch come from one value an image, and the large scales that result ruin
    INT8 quantisation.

    Returns:
        (N, H, W, C + filters * len(bins)) in the size of ``x``.
    """
    branches = [x]
    for count in bins:
        label = f"{name}_{count}"
        y = pool_to_bins(x, count, f"{label}_pool")
        y = conv_bn(y, filters, f"{label}_conv", activation=activation, norm=count > 1)
        branches.append(resize_like(y, x, f"{label}_up"))
    return layers.Concatenate(name=f"{name}_concat")(branches)
