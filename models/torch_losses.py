"""The losses of a training step, on torch tensors.

The same losses for plain Keras are in `rtseg.models.keras_losses`; a test holds the two
against each other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rtseg.engines.labels import VOID_ID
from rtseg.models.config import LossConfig
from rtseg.models.unions import FIRST_UNION, MEMBERS


def shift_logits(logits: torch.Tensor, dy: float, dx: float) -> torch.Tensor:
    """Sample (N, C, h, w) bilinearly at every cell's centre moved by (dy, dx) cells.

    Both within -1..1; the border is repeated.
    """
    for axis, move in ((2, dy), (3, dx)):
        if move:
            size = logits.shape[axis]
            edge = logits.narrow(axis, size - 1 if move > 0 else 0, 1)
            if move > 0:
                neighbour = torch.cat([logits.narrow(axis, 1, size - 1), edge], axis)
            else:
                neighbour = torch.cat([edge, logits.narrow(axis, 0, size - 1)], axis)
            logits = torch.lerp(logits, neighbour, abs(move))
    return logits


def phase_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    phase: tuple[int, int],
    weights: torch.Tensor,
    config: LossConfig | None = None,
    emphasis: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loss on one of every stride x stride label pixels.

    Upsampled logits at label row k * stride + p are the logits moved by
    (p + 0.5) / stride - 0.5 cells, so this equals the full-size loss in the mean over
    random phases, at the cost of the small map.

    Args:
        logits: float (N, C, h, w).
        labels: int64 (N, h * stride, w * stride), trainIds and unions, 255 ignored.
        phase: which pixel of each cell.
        weights: float (C,).
        config: what beside cross-entropy; None for that alone.
        emphasis: float (N, h * stride, w * stride), factor on each pixel.
    """
    stride = labels.shape[1] // logits.shape[2]
    moves = [(p + 0.5) / stride - 0.5 for p in phase]
    cells = (slice(None), slice(phase[0], None, stride), slice(phase[1], None, stride))
    moved = shift_logits(logits, moves[0], moves[1])
    return labelled_loss(
        moved,
        labels[cells],
        weights,
        config or LossConfig(),
        None if emphasis is None else emphasis[cells],
    )


def labelled_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor,
    config: LossConfig,
    emphasis: torch.Tensor | None = None,
) -> torch.Tensor:
    """Weighted cross-entropy, with what ``config`` adds to it; 0 where all is void.

    Args:
        logits: float (N, C, h, w).
        target: int64 (N, h, w), trainIds and unions, 255 ignored.
        weights: float (C,).
        config: see `LossConfig`.
        emphasis: float (N, h, w), factor on each pixel.
    """
    if not (target != VOID_ID).any():
        return logits.sum() * 0.0  # nothing to learn from these labels, and no division by zero
    target = choose_members(logits, target)
    if emphasis is None and config.hardest >= 1.0:
        total = F.cross_entropy(logits, target, weights, ignore_index=VOID_ID)
    else:
        total = _pixelwise(logits, target, weights, config.hardest, emphasis)
    if config.dice or config.lovasz:
        known = target != VOID_ID
        flat = torch.softmax(logits, 1).movedim(1, -1)[known]
        truth = target[known]
        if config.dice:
            total = total + config.dice * dice_loss(flat, truth)
        if config.lovasz:
            total = total + config.lovasz * lovasz_loss(flat, truth)
    return total


def choose_members(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Put in place of each union the member that the network finds likeliest.

    Args:
        logits: float (N, C, h, w).
        target: int64 (N, h, w), trainIds, unions (`rtseg.models.unions`) and 255.
    """
    union = (target >= FIRST_UNION) & (target != VOID_ID)
    if not union.any():
        return target
    allowed = torch.from_numpy(MEMBERS).to(target.device)[target[union]]
    seen = logits.detach().movedim(1, -1)[union].float()
    target = target.clone()
    target[union] = seen.masked_fill(~allowed, -torch.inf).argmax(1)
    return target


def _pixelwise(
    logits: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor,
    hardest: float,
    emphasis: torch.Tensor | None,
) -> torch.Tensor:
    """Weighted mean of the cross-entropy over the ``hardest`` share of labelled pixels."""
    known = target != VOID_ID
    each = F.cross_entropy(logits, target, ignore_index=VOID_ID, reduction="none")[known]
    weight = weights[target[known]]
    if emphasis is not None:
        weight = weight * emphasis[known]
    if hardest < 1.0:
        # Hard by the network's own error: class weights must not decide what is hard.
        kept = each.detach().topk(max(1, round(hardest * each.numel()))).indices
        each, weight = each[kept], weight[kept]
    return (weight * each).sum() / weight.sum()


def dice_loss(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - Dice, mean over the classes present (Milletari et al. 2016).

    Args:
        probabilities: float (P, C).
        truth: int64 (P,).
    """
    classes = probabilities.shape[1]
    one_hot = F.one_hot(truth, classes).to(probabilities.dtype)
    both = (probabilities * one_hot).sum(0)
    count = one_hot.sum(0)
    dice = (2 * both + 1) / (probabilities.sum(0) + count + 1)
    return 1 - dice[count > 0].mean()


def lovasz_loss(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Lovász-softmax: a convex bound of 1 - IoU, mean over the classes present.

    Berman et al., "The Lovász-Softmax loss", 2018.

    Args:
        probabilities: float (P, C).
        truth: int64 (P,).
    """
    classes = probabilities.shape[1]
    one_hot = F.one_hot(truth, classes).to(probabilities.dtype)
    present = one_hot.sum(0) > 0
    errors, order = (one_hot - probabilities).abs().sort(0, descending=True)
    sorted_truth = one_hot.gather(0, order)
    total = sorted_truth.sum(0)
    intersection = total - sorted_truth.cumsum(0)
    union = total + (1 - sorted_truth).cumsum(0)
    jaccard = 1 - intersection / union.clamp(min=1)
    step = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return (errors * step).sum(0)[present].mean()


def soft_loss(logits: torch.Tensor, soft: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against a teacher's probabilities, mean over all cells.

    Args:
        logits: float (N, C, h, w).
        soft: float (N, C, h, w), 0 to 1; cells that sum to less count for less.
        weights: float (C,), of the classes.
    """
    weighted = soft * weights.view(1, -1, 1, 1)
    return -(weighted * F.log_softmax(logits, 1)).sum(1).mean()
