"""The losses against their definitions, and torch's against Keras'."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.models.config import LossConfig

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

CLASSES = 5
CONFIGS = [
    LossConfig(),
    LossConfig(hardest=0.3),
    LossConfig(dice=1.0),
    LossConfig(lovasz=1.0),
    LossConfig(hardest=0.5, dice=0.4, lovasz=0.7),
]


def problem(seed: int) -> tuple[Any, Any, Any, Any]:
    """Logits (2, C, 6, 7), labels with void, class weights and an emphasis."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (2, CLASSES, 6, 7)).astype(np.float32)
    labels = rng.integers(0, CLASSES - 1, (2, 6, 7))
    labels[rng.random(labels.shape) < 0.2] = 255
    labels[0, 0, 0] = 1
    weights = rng.uniform(0.5, 3, CLASSES).astype(np.float32)
    return logits, labels, weights, rng.choice([1.0, 2.5], labels.shape).astype(np.float32)


def keras_value(logits: Any, labels: Any, weights: Any, emphasis: Any, config: LossConfig) -> float:
    from rtseg.models.keras_losses import labelled_loss

    known = labels != 255
    target = np.where(known, labels, 0)
    weight = np.where(known, weights[target] * emphasis, 0).astype(np.float32)
    flat = logits.transpose(0, 2, 3, 1).reshape(-1, CLASSES)
    value = labelled_loss(
        keras.ops.convert_to_tensor(flat),
        keras.ops.convert_to_tensor(target.ravel().astype(np.int32)),
        keras.ops.convert_to_tensor(weight.ravel()),
        config,
    )
    return float(keras.ops.convert_to_numpy(value))


def softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_torch_and_keras_agree(config: LossConfig) -> None:
    torch = pytest.importorskip("torch", reason="the accelerated trainer needs torch")
    from rtseg.models.torch_losses import labelled_loss

    for seed in range(5):
        logits, labels, weights, emphasis = problem(seed)
        arguments = [torch.from_numpy(a) for a in (logits, labels, weights)]
        value = float(labelled_loss(*arguments, config, torch.from_numpy(emphasis)))
        assert value == pytest.approx(
            keras_value(logits, labels, weights, emphasis, config), rel=1e-4
        )


def test_the_plain_loss_is_weighted_cross_entropy() -> None:
    logits, labels, weights, emphasis = problem(0)
    known = labels != 255
    chances = softmax(logits.transpose(0, 2, 3, 1))[known]
    truth = labels[known]
    each = -np.log(chances[np.arange(len(truth)), truth])
    factor = weights[truth] * emphasis[known]
    expected = (factor * each).sum() / factor.sum()
    assert keras_value(logits, labels, weights, emphasis, LossConfig()) == pytest.approx(
        expected, rel=1e-4
    )


def test_the_hardest_pixels_are_those_with_the_largest_loss() -> None:
    logits, labels, _, _ = problem(3)
    known = labels != 255
    chances = softmax(logits.transpose(0, 2, 3, 1))[known]
    truth = labels[known]
    each = np.sort(-np.log(chances[np.arange(len(truth)), truth]))[::-1]
    expected = each[: round(0.25 * len(each))].mean()
    ones = np.ones(CLASSES, np.float32)
    even = np.ones(labels.shape, np.float32)
    value = keras_value(logits, labels, ones, even, LossConfig(hardest=0.25))
    assert value == pytest.approx(expected, rel=1e-4)


@settings(max_examples=15)
@given(st.lists(st.integers(0, 2), min_size=4, max_size=9), st.integers(0, 1000))
def test_lovasz_of_certain_predictions_is_one_minus_iou(truth: list[int], seed: int) -> None:
    """At the corners of the simplex the extension equals the set function."""
    from rtseg.models.keras_losses import lovasz_loss

    labels = np.array(truth)
    guess = np.random.default_rng(seed).integers(0, 3, len(labels))
    expected = [
        1 - ((guess == c) & (labels == c)).sum() / ((guess == c) | (labels == c)).sum()
        for c in np.unique(labels)
    ]
    eye = np.eye(3, dtype=np.float32)
    value = lovasz_loss(
        keras.ops.convert_to_tensor(eye[guess]), keras.ops.convert_to_tensor(eye[labels])
    )
    assert float(keras.ops.convert_to_numpy(value)) == pytest.approx(np.mean(expected), abs=1e-5)


def test_dice_counts_only_classes_that_are_there() -> None:
    from rtseg.models.keras_losses import dice_loss

    eye = np.eye(4, dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    right = dice_loss(
        keras.ops.convert_to_tensor(eye[labels]), keras.ops.convert_to_tensor(eye[labels])
    )
    wrong = dice_loss(
        keras.ops.convert_to_tensor(eye[labels + 2]), keras.ops.convert_to_tensor(eye[labels])
    )
    assert float(keras.ops.convert_to_numpy(right)) == pytest.approx(0, abs=1e-6)
    assert float(keras.ops.convert_to_numpy(wrong)) == pytest.approx(1 - 1 / 3)


def test_a_teachers_view_is_learnt_where_it_is_given() -> None:
    torch = pytest.importorskip("torch", reason="the accelerated trainer needs torch")
    from rtseg.models.keras_losses import soft_loss as in_keras
    from rtseg.models.torch_losses import soft_loss

    logits, _, weights, _ = problem(1)
    soft = softmax(np.random.default_rng(2).normal(0, 2, (2, 6, 7, CLASSES))).astype(np.float32)
    soft[0] = 0
    variable = torch.from_numpy(logits).requires_grad_()
    loss = soft_loss(variable, torch.from_numpy(soft.transpose(0, 3, 1, 2)), torch.ones(CLASSES))
    loss.backward()
    assert variable.grad is not None
    assert variable.grad[0].abs().sum() == 0
    # Cross-entropy is least where both agree: its gradient is their difference.
    difference = torch.softmax(variable, 1)[1] - torch.from_numpy(soft[1].transpose(2, 0, 1))
    cells = 2 * 6 * 7
    assert torch.allclose(variable.grad[1], difference.detach() / cells, atol=1e-6)
    weighted = soft_loss(
        torch.from_numpy(logits),
        torch.from_numpy(soft.transpose(0, 3, 1, 2)),
        torch.from_numpy(weights),
    )
    ours = in_keras(
        keras.ops.convert_to_tensor(logits.transpose(0, 2, 3, 1)),
        keras.ops.convert_to_tensor(soft),
        keras.ops.convert_to_tensor(weights),
    )
    assert float(weighted) == pytest.approx(float(keras.ops.convert_to_numpy(ours)), rel=1e-4)


@pytest.mark.parametrize("stride", [2, 4])
def test_the_sampled_loss_is_the_full_loss_in_the_mean(stride: int) -> None:
    torch = pytest.importorskip("torch", reason="the accelerated trainer needs torch")
    import torch.nn.functional as F

    from rtseg.models.torch_losses import phase_loss

    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 1, (1, CLASSES, 6, 8)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, CLASSES, (1, 6 * stride, 8 * stride)))
    ones = torch.ones(CLASSES)
    phases = list(itertools.product(range(stride), repeat=2))
    sampled = torch.stack([phase_loss(logits, labels, phase, ones) for phase in phases]).mean()
    full = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    assert float(sampled) == pytest.approx(float(F.cross_entropy(full, labels)), rel=1e-4)
