"""Bayesian SegNet (Kendall et al. 2015, arXiv:1511.02680; SegNet: arXiv:1511.00561).

The 13 convolutions of VGG-16 and their mirror image; what max-pooling took, unpooling
puts back where it was. Dropout of 0.5 after the three deepest encoders and decoders: on
in training, and with ``monte_carlo`` in inference too, so that repeated predictions are
samples of the posterior (`rtseg.models.uncertainty`). Logits at the size of the input.

Parameters: 29.46 M published for SegNet, 29.46 M here.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from rtseg.models.efficientnet import MEAN, STD
from rtseg.models.layers import Activation, activate, conv_bn, frames_input, normalise

#: Convolutions of the encoders, by level.
LEVELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
#: Levels that end in dropout, in the encoder and in the decoder.
DROPOUT_LEVELS = (2, 3, 4)
DROPOUT = 0.5


@keras.saving.register_keras_serializable(package="rtseg")
class MaxUnpool(layers.Layer):  # type: ignore[misc]
    """Put each value where the maximum of its 2x2 window was.

    Inputs: values (N, H, W, C), the map before pooling (N, 2H, 2W, C) and that map after
    it (N, H, W, C). A window with several equal maxima gets the value at each of them.
    """

    def call(self, inputs: Any) -> Any:
        """Unpool to (N, 2H, 2W, C); zero wherever the maximum was not."""
        values, before, after = inputs
        where = keras.ops.cast(keras.ops.equal(before, _double(after)), values.dtype)
        return _double(values) * where

    def compute_output_shape(
        self, input_shape: list[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Shape of the map before pooling."""
        return tuple(input_shape[1])


def _double(x: Any) -> Any:
    return keras.ops.repeat(keras.ops.repeat(x, 2, axis=1), 2, axis=2)


@keras.saving.register_keras_serializable(package="rtseg")
class MonteCarloDropout(layers.Dropout):  # type: ignore[misc]
    """Dropout that, with ``sampling``, stays on in inference.

    Calling a layer with ``training=True`` instead would switch on every layer after it.

    Args:
        rate: share of the values that are dropped.
        sampling: whether inference drops values too.
    """

    def __init__(self, rate: float, *, sampling: bool = False, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self.sampling = sampling

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop values in training, and always when sampling."""
        return super().call(inputs, training=training or self.sampling)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for Keras' serialisation."""
        return {**super().get_config(), "sampling": self.sampling}


def build_bayesian_segnet(
    height: int = 512, width: int = 512, classes: int = 19, *, monte_carlo: bool = False
) -> keras.Model:
    """Build Bayesian SegNet.

    Args:
        height, width: input size in pixels, multiples of 32.
        classes: number of output channels.
        monte_carlo: keep dropout on in inference. The weights are the same either way;
            an exported file never drops anything.

    Returns:
        Model from RGB 0..255 float32 (N, height, width, 3) to logits
        (N, height, width, classes).

    Raises:
        ModelError: the size is not a multiple of 32.
    """
    frames = frames_input(height, width)
    x = normalise(frames, MEAN, STD)
    pools = []
    for level, widths in enumerate(LEVELS):
        for number, filters in enumerate(widths):
            # The last ReLU comes after the pooling: the same values, and the place of the
            # maximum is not lost among the zeros that ReLU makes.
            last = number == len(widths) - 1
            activation: Activation = None if last else "relu"
            x = conv_bn(x, filters, f"encode{level}_{number}", kernel=3, activation=activation)
        after = layers.MaxPooling2D(2, name=f"encode{level}_pool")(x)
        pools.append((x, after))
        x = activate(after, "relu", f"encode{level}_act")
        if level in DROPOUT_LEVELS:
            x = MonteCarloDropout(DROPOUT, sampling=monte_carlo, name=f"encode{level}_drop")(x)
    for level in reversed(range(len(LEVELS))):
        x = MaxUnpool(name=f"decode{level}_unpool")([x, *pools[level]])
        widths = tuple(reversed((LEVELS[max(level - 1, 0)][-1], *LEVELS[level][1:])))
        for number, filters in enumerate(widths):
            if level == 0 and number == len(widths) - 1:
                break  # the classifier takes the place of the last convolution
            x = conv_bn(x, filters, f"decode{level}_{number}", kernel=3, activation="relu")
        if level in DROPOUT_LEVELS:
            x = MonteCarloDropout(DROPOUT, sampling=monte_carlo, name=f"decode{level}_drop")(x)
    logits = layers.Conv2D(classes, 3, padding="same", name="logits", dtype="float32")(x)
    return keras.Model(frames, logits, name="bayesian-segnet")
