"""The losses of a training step, in backend-neutral Keras.

The counterpart of `rtseg.models.torch_losses`; a test holds the two against each other.
Pixels that do not count have weight 0 instead of being left out, so that shapes stay
fixed and a compiled step is compiled once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from rtseg.models.config import LossConfig
from rtseg.models.unions import MEMBERS


def labelled_loss(logits: Any, target: Any, weight: Any, config: LossConfig) -> Any:
    """Weighted cross-entropy, with what ``config`` adds to it.

    Args:
        logits: float (P, C).
        target: int (P,), any class where ``weight`` is 0.
        weight: float (P,): the class's times the pixel's; 0 for void.
        config: see `LossConfig`.
    """
    logits = ops.cast(logits, "float32")
    classes = logits.shape[-1]
    one_hot = ops.one_hot(target, classes, dtype="float32")
    each = -ops.sum(one_hot * ops.log_softmax(logits, axis=-1), axis=-1)
    known = ops.cast(weight > 0, "float32")
    chosen = weight
    if config.hardest < 1.0:
        chosen = weight * _hardest(ops.stop_gradient(each) * known, known, config.hardest)
    total = ops.sum(chosen * each) / ops.maximum(ops.sum(chosen), 1e-6)
    if config.dice or config.lovasz:
        probabilities = ops.softmax(logits, axis=-1) * known[:, None]
        one_hot = one_hot * known[:, None]
        if config.dice:
            total = total + config.dice * dice_loss(probabilities, one_hot)
        if config.lovasz:
            total = total + config.lovasz * lovasz_loss(probabilities, one_hot)
    return total


def choose_members(logits: Any, target: Any) -> Any:
    """Put in place of each union the member that the network finds likeliest.

    Args:
        logits: float (P, C).
        target: int (P,), trainIds and unions (`rtseg.models.unions`); any class for others.
    """
    allowed = ops.take(ops.convert_to_tensor(MEMBERS.astype(np.float32)), target, axis=0)
    seen = ops.stop_gradient(ops.cast(logits, "float32"))
    return ops.argmax(ops.where(allowed > 0, seen, -np.inf), axis=-1)


def _hardest(each: Any, known: Any, share: float) -> Any:
    """1 for the ``share`` of the known pixels with the largest loss, else 0."""
    ranked = ops.flip(ops.sort(each))
    count = ops.maximum(ops.round(share * ops.sum(known)), 1.0)
    place = ops.cast(count, "int32") - 1
    threshold = ops.take(ranked, place)
    return ops.cast(each >= threshold, "float32")


def _mean_of_present(values: Any, count: Any) -> Any:
    present = ops.cast(count > 0, "float32")
    return ops.sum(values * present) / ops.maximum(ops.sum(present), 1.0)


def dice_loss(probabilities: Any, one_hot: Any) -> Any:
    """1 - Dice, mean over the classes present (Milletari et al. 2016).

    Args:
        probabilities, one_hot: float (P, C), rows of void pixels all 0.
    """
    both = ops.sum(probabilities * one_hot, axis=0)
    count = ops.sum(one_hot, axis=0)
    dice = (2 * both + 1) / (ops.sum(probabilities, axis=0) + count + 1)
    return 1 - _mean_of_present(dice, count)


def lovasz_loss(probabilities: Any, one_hot: Any) -> Any:
    """Lovász-softmax, mean over the classes present (Berman et al. 2018).

    Args:
        probabilities, one_hot: float (P, C), rows of void pixels all 0.
    """
    errors = ops.abs(one_hot - probabilities)
    order = ops.flip(ops.argsort(errors, axis=0), axis=0)
    errors = ops.take_along_axis(errors, order, axis=0)
    truth = ops.take_along_axis(one_hot, order, axis=0)
    total = ops.sum(truth, axis=0)
    intersection = total - ops.cumsum(truth, axis=0)
    union = total + ops.cumsum(1 - truth, axis=0)
    jaccard = 1 - intersection / ops.maximum(union, 1.0)
    step = ops.concatenate([jaccard[:1], jaccard[1:] - jaccard[:-1]], axis=0)
    return _mean_of_present(ops.sum(errors * step, axis=0), total)


def soft_loss(logits: Any, soft: Any, weights: Any) -> Any:
    """Cross-entropy against a teacher's probabilities, mean over all cells.

    Args:
        logits, soft: float (N, h, w, C); cells that sum to less than 1 count for less.
        weights: float (C,), of the classes.
    """
    logits = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    # As a tensor: torch hands a product with an array over to NumPy.
    weights = ops.convert_to_tensor(weights, dtype="float32")
    return -ops.mean(ops.sum(soft * weights * logits, axis=-1))
