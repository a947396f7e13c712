from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.calibration.cityscapes import Sample
from rtseg.calibration.metrics import confusion_matrix
from rtseg.engines.labels import CITYSCAPES, VOID_ID
from rtseg.models.evaluation import InstanceJudge, OutlineJudge, as_json, outline_text

SAMPLE = Sample("jena_000007_000019", Path("image.png"), Path("label.png"))


def test_a_shifted_outline_is_wrong_near_it_alone() -> None:
    label = np.zeros((64, 64), np.uint8)
    label[:, 32:] = 13
    outline = OutlineJudge(CITYSCAPES, 4)
    outline(SAMPLE, label, np.roll(label, 2, axis=1))  # two columns move, two more at the rim
    # Near are four columns on each side; the rim's two wrong columns are far from them.
    assert outline.near().pixel_accuracy == pytest.approx(6 / 8)
    assert outline.away().pixel_accuracy == pytest.approx(54 / 56)
    assert outline.near_share == pytest.approx(8 / 64)
    text = outline_text(outline)
    assert "within 4 px of an outline" in text
    assert "75.00" in text


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_near_and_away_are_the_whole(seed: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice(np.array([0, 5, 18, VOID_ID], np.uint8), (6, 8)).repeat(6, 0).repeat(7, 1)
    guess = rng.integers(0, 19, label.shape).astype(np.uint8)
    outline = OutlineJudge(CITYSCAPES, reach)
    outline(SAMPLE, label, guess)
    total = outline.near().matrix + outline.away().matrix
    assert np.array_equal(total, confusion_matrix(label, guess, 19))


def test_without_an_outline_nothing_is_near() -> None:
    outline = OutlineJudge(CITYSCAPES, 3)
    label = np.full((16, 16), 2, np.uint8)
    outline(SAMPLE, label, label)
    assert outline.near_share == 0
    found = as_json(
        CITYSCAPES, outline.away(), InstanceJudge(CITYSCAPES), images=1, outline=outline
    )
    assert found["outline"]["near"] == {"mean_iou": None, "pixel_accuracy": None}
    assert found["outline"]["away"]["pixel_accuracy"] == 1.0
