"""Takes the class weights of the loss back out of a trained network.

Under a loss weighted by class a network learns probabilities that are too high for the classes
that weigh much, by the factor of their weights. Subtracting the logarithm of the weights from
the logits undoes that, wholly (which is best for pixel accuracy) or in part (mIoU lies between).
After the logit adjustment of Menon et al., "Long-tail learning via logit adjustment", 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rtseg.models.errors import ModelError

if TYPE_CHECKING:
    import keras


def unweight(model: keras.Model, weights: NDArray[np.float32], strength: float) -> None:
    """Subtract ``strength * log(weights)`` from the biases of the last layer, in place.

    Args:
        model: a network whose last layer with weights has a bias for each class.
        weights: of the loss, above 0, float32 (C,).
        strength: 0 changes nothing, 1 takes the weights back wholly.

    Raises:
        ModelError: a strength outside 0 to 1, or a network of another kind.
    """
    if not 0 <= strength <= 1:
        raise ModelError(f"strength {strength}. Allowed: 0 to 1", reason="BAD_CONFIG")
    last = next((layer for layer in reversed(model.layers) if layer.weights), None)
    bias = getattr(last, "bias", None)
    if last is None or bias is None or tuple(bias.shape) != weights.shape:
        raise ModelError(
            f"the last layer of {model.name} has no bias for each of {len(weights)} classes",
            reason="UNSUPPORTED_LAYER",
        )
    bias.assign(bias - (strength * np.log(weights)).astype(np.float32))
