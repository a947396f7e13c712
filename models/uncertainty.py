"""What a network is unsure of, from repeated predictions with dropout.

Monte-Carlo dropout as in Bayesian SegNet (Kendall et al. 2015): the mean of the class
probabilities over the samples is the prediction, their variance the uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from rtseg.models.errors import ModelError


@dataclass(frozen=True)
class Posterior:
    """Samples of a network's answer, summed up.

    Attributes:
        labels: uint8 (N, h, w), the class of the highest mean probability.
        probability: float32 (N, h, w, C), mean over the samples; sums to 1 over C.
        uncertainty: float32 (N, h, w), variance over the samples, mean over the classes.
    """

    labels: NDArray[np.uint8]
    probability: NDArray[np.float32]
    uncertainty: NDArray[np.float32]


def sample_posterior(
    model: keras.Model, images: NDArray[np.uint8], *, samples: int = 50
) -> Posterior:
    """Predict ``samples`` times and sum up.

    Args:
        model: a network whose dropout stays on in inference, such as
            ``build_bayesian_segnet(..., monte_carlo=True)``.
        images: RGB uint8 (N, H, W, 3) in the network's size.
        samples: number of predictions; the paper takes 50, and more than 6 already beat
            the network without sampling.

    Raises:
        ModelError: fewer than 2 samples, or a network without such dropout.
    """
    if samples < 2:
        raise ModelError(
            f"uncertainty needs at least 2 samples. Received: {samples}", reason="BAD_CONFIG"
        )
    if not any(getattr(layer, "sampling", False) for layer in model.layers):
        raise ModelError(
            f"{model.name} has no dropout that stays on in inference; build it with "
            "monte_carlo=True",
            reason="BAD_CONFIG",
        )
    frames = images.astype(np.float32)
    mean = square = np.zeros(())
    for _ in range(samples):
        logits = model.predict_on_batch(frames)
        values = keras.ops.convert_to_numpy(keras.ops.softmax(logits)).astype(np.float64)
        mean = mean + values / samples
        square = square + values**2 / samples
    variance = np.maximum(square - mean**2, 0.0)
    return Posterior(
        labels=mean.argmax(-1).astype(np.uint8),
        probability=mean.astype(np.float32),
        uncertainty=variance.mean(-1).astype(np.float32),
    )
