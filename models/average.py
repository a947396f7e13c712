"""Weights of several runs of one network, averaged.

Runs that go on from one another, each with its own schedule, end in different places around one
good one; their mean judges new images better than any of them (stochastic weight averaging,
Izmailov et al. 2018, over the ends of cycles).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.models.errors import ModelError
from rtseg.models.registry import build, load_weights

if TYPE_CHECKING:
    import keras


def average_weights(
    network: str, files: Sequence[Path], shares: Sequence[float] | None = None
) -> keras.Model:
    """Build a network whose every weight is the mean of those in ``files``.

    BatchNorm statistics are averaged with the rest.

    Args:
        network: name in the registry.
        files: ``.weights.h5`` files of that network, at least two.
        shares: weight of each file, in any positive unit; None counts all the same.

    Raises:
        ModelError: a file that is missing or does not fit, too few files, or shares that are
            not one positive number for each.
    """
    if shares is None:
        shares = [1.0] * len(files)
    if len(files) < 2:
        raise ModelError(
            f"an average needs at least two files. Received: {len(files)}", reason="BAD_CONFIG"
        )
    if len(shares) != len(files) or not all(0 < s < math.inf for s in shares):
        raise ModelError(
            f"expected {len(files)} shares above 0, one for each file. Received: {list(shares)}",
            reason="BAD_CONFIG",
        )
    whole = sum(share / max(shares) for share in shares)  # no sum of shares can overflow
    model = build(network)
    total = [0.0 * weight for weight in model.get_weights()]
    for file, share in zip(files, shares, strict=True):
        load_weights(model, str(file))
        for place, weight in enumerate(model.get_weights()):
            total[place] = total[place] + weight * (share / max(shares) / whole)
    model.set_weights(total)
    return model
