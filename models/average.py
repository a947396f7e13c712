"""Weights of several runs of one network, averaged.

Runs that go on from one another, each with its own schedule, end in different places around one
good one; their mean judges new images better than any of them (stochastic weight averaging,
Izmailov et al. 2018, over the ends of cycles).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.models.errors import ModelError
from rtseg.models.files import write_whole
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
    model = build(network)
    total = [0.0 * weight for weight in model.get_weights()]
    for file, share in zip(files, shares, strict=True):
        load_weights(model, str(file))
        for place, weight in enumerate(model.get_weights()):
            total[place] = total[place] + weight * (share / sum(shares))
    model.set_weights(total)
    return model


def save_whole(model: keras.Model, path: Path) -> None:
    """Write the weights of ``model`` as a ``.weights.h5`` file, all or nothing.

    Raises:
        ModelError: another name, ``NO_SPACE`` or ``PERMISSION_DENIED``.
    """
    if not path.name.endswith(".weights.h5"):
        raise ModelError(f"{path}; allowed: a name in .weights.h5", reason="BAD_CONFIG")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        model.save_weights(written)
        write_whole(path, written.read_bytes())
