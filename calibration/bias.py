"""Bias correction: what rounding the weights does to a convolution's mean goes into its bias.

Rounded to INT8, the weights of a channel no longer add up to what they did, so that its output
is off by the same amount everywhere, most where there are few weights (depthwise). With
the mean of the input that amount is known, and a bias costs nothing (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.network import F32


def bias_correction(
    weight: F32, rounded: F32, mean: NDArray[np.floating[Any]], groups: int = 1
) -> F32:
    """Return what to add to a convolution's bias so that its mean output stays.

    Args:
        weight: O x I/groups x ..., float32.
        rounded: the same weight after rounding, in float32.
        mean: mean of each of the I input channels.
        groups: the convolution's groups.

    Returns:
        O values, float32. Borders are taken for the rest of the picture.
    """
    outputs, inputs = weight.shape[:2]
    lost = (weight.astype(np.float64) - rounded).reshape(outputs, inputs, -1).sum(2)
    lost = lost.reshape(groups, outputs // groups, inputs)
    shift = np.einsum("goi,gi->go", lost, np.asarray(mean, np.float64).reshape(groups, inputs))
    corrections: F32 = shift.reshape(outputs).astype(np.float32)
    return corrections
