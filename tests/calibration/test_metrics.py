from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.metrics import confusion_matrix, scores

CLASSES = 5
truths = arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, 3, 4, 255]))
guesses = arrays(np.uint8, (6, 7), elements=st.integers(0, CLASSES - 1))


def test_worked_example() -> None:
    label = np.array([[0, 0, 1], [1, 255, 1]], np.uint8)
    guess = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    matrix = confusion_matrix(label, guess, 3)
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    result = scores(matrix)
    assert result.class_iou[:2].tolist() == [1 / 3, 0.5]
    assert np.isnan(result.class_iou[2])
    assert result.mean_iou == pytest.approx((1 / 3 + 0.5) / 2)
    assert result.pixel_accuracy == pytest.approx(3 / 5)
    assert result.pixels == 5


@given(truths, guesses)
def test_every_labelled_pixel_is_counted_once(
    label: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    guess: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    matrix = confusion_matrix(label, guess, CLASSES)
    assert matrix.sum() == (label != 255).sum()
    for number in range(CLASSES):
        assert matrix[number].sum() == (label == number).sum()
        assert matrix[:, number].sum() == ((guess == number) & (label != 255)).sum()


@given(truths, guesses)
def test_scores_are_ratios_and_match_their_definition(
    label: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    guess: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    result = scores(confusion_matrix(label, guess, CLASSES))
    valid = label != 255
    for number, iou in enumerate(result.class_iou):
        a, b = (label == number) & valid, (guess == number) & valid
        if not (a | b).any():
            assert np.isnan(iou)
        else:
            assert iou == pytest.approx((a & b).sum() / (a | b).sum())
    if valid.any():
        assert 0 <= result.mean_iou <= 1
        assert result.pixel_accuracy == pytest.approx((label == guess)[valid].mean())


@given(truths)
def test_a_perfect_prediction_scores_one(
    label: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    guess = np.where(label == 255, 0, label).astype(np.uint8)
    result = scores(confusion_matrix(label, guess, CLASSES))
    if (label != 255).any():
        assert result.mean_iou == result.pixel_accuracy == 1.0


def test_an_empty_matrix_has_no_scores() -> None:
    result = scores(np.zeros((3, 3), np.int64))
    assert np.isnan(result.mean_iou)
    assert np.isnan(result.pixel_accuracy)


def test_ids_beyond_the_classes_are_refused() -> None:
    good, bad = np.zeros((2, 2), np.uint8), np.full((2, 2), 7, np.uint8)
    with pytest.raises(CalibrationError, match=r"label holds class 7.*0\.\.4 and 255") as caught:
        confusion_matrix(bad, good, CLASSES)
    assert caught.value.reason == "CLASS_MISMATCH"
    with pytest.raises(CalibrationError, match=r"prediction holds class 7; 5 classes allow"):
        confusion_matrix(good, bad, CLASSES)


def test_shapes_must_agree() -> None:
    with pytest.raises(CalibrationError, match="differ in shape") as caught:
        confusion_matrix(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), CLASSES)
    assert caught.value.reason == "BAD_INPUT"
