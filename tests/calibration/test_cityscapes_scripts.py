"""Our scores against Cityscapes' own evaluation scripts, on the same images."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import Sample, find_samples, read_instances, read_label
from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.instances import InstanceStats
from rtseg.calibration.metrics import category_iou, confusion_matrix, scores
from rtseg.engines.labels import CITYSCAPES
from tests.data import find_shared_data

IMAGES = 4


def official_scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("cityscapesscripts", reason="needs the extra 'test'")
    if not hasattr(np, "in1d"):  # removed from numpy, still called by the scripts
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as scripts

    return scripts


def spoil(label: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """A prediction that is wrong in patches, along edges, and everywhere in void."""
    rng = np.random.default_rng(seed)
    guess = cv2.medianBlur(np.where(label == 255, rng.integers(19), label).astype(np.uint8), 5)
    height, width = guess.shape
    for _ in range(12):
        y, x = rng.integers(height // 2), rng.integers(width - width // 5)
        patch = guess[y : y + height // 8, x : x + width // 6]
        if rng.random() < 0.5:
            patch[...] = rng.integers(19)
        else:  # swap two classes of one category
            for first, second in ((11, 12), (13, 15), (17, 18), (2, 3)):
                patch[patch == first] = second
    return np.asarray(guess, np.uint8)


def drawn_samples(root: Path) -> list[Sample]:
    """Two images with cars, people, a group of cars, void and a class outside evaluation."""
    samples = []
    for number in range(2):
        labels = np.full((96, 160), 7, np.uint8)
        labels[:40] = 11
        instances = labels.astype(np.uint16)
        places = [(26, 1, 50, 10, 14, 30), (26, 2, 50, 60, 5, 8), (24, 1, 44, 90, 20, 6)]
        places += [
            (25, 1, 44, 120, 18, 7),
            (32, 1, 70, 20 + 20 * number, 12, 12),
            (29, 1, 5, 5, 9, 9),
        ]
        for label_id, count, y, x, height, width in places:
            labels[y : y + height, x : x + width] = label_id
            instances[y : y + height, x : x + width] = 1000 * label_id + count
        labels[80:90, 100:150] = 26
        instances[80:90, 100:150] = 26  # a group is no instance
        labels[92:] = instances[92:] = 1
        stem = root / f"town_{number:06d}_000019_gtFine_"
        cv2.imwrite(f"{stem}labelIds.png", labels)
        cv2.imwrite(f"{stem}instanceIds.png", instances)
        path = Path(f"{stem}labelIds.png")
        samples.append(Sample(f"town_{number:06d}_000019", path, path, "labelIds"))
    return samples


def real_samples() -> list[Sample]:
    shared = find_shared_data()
    if shared is None:
        pytest.skip("needs the project's shared data (set RTSEG_DATA)")
    found = find_samples(shared / "cityscapes-512x256", "val")
    samples = []
    for sample in found:
        assert sample.label is not None
        label = sample.label.with_name(f"{sample.name}_gtFine_labelIds.png")
        if label.exists():
            samples.append(replace(sample, label=label, encoding="labelIds"))
    return samples[:: max(1, len(samples) // IMAGES)][:IMAGES]


@pytest.mark.parametrize("which", ["drawn", "real"])
def test_scores_are_those_of_the_official_scripts(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = official_scripts(monkeypatch)
    samples = drawn_samples(tmp_path) if which == "drawn" else real_samples()
    matrix = np.zeros((19, 19), np.int64)
    stats = InstanceStats()
    predictions = []
    for number, sample in enumerate(samples):
        label, instances = read_label(sample), read_instances(sample)
        assert instances is not None
        guess = spoil(label, number)
        matrix += confusion_matrix(label, guess, 19)
        stats.add(instances, guess)
        path = tmp_path / f"prediction{number}.png"
        cv2.imwrite(str(path), np.array(CITYSCAPES.label_ids, np.uint8)[guess])
        predictions.append(str(path))
    arguments = SimpleNamespace(**{**vars(scripts.args), "quiet": True, "JSONOutput": False})
    truth = [str(sample.label) for sample in samples]
    official = scripts.evaluateImgLists(predictions, truth, arguments)

    ours = scores(matrix)
    assert 0.1 < ours.mean_iou < 0.95
    assert ours.mean_iou == pytest.approx(official["averageScoreClasses"], abs=1e-12)
    instance_iou = stats.class_iou(matrix)
    for number, name in enumerate(CITYSCAPES.names):
        same = pytest.approx(official["classScores"][name], abs=1e-12, nan_ok=True)
        assert ours.class_iou[number] == same, name
        same = pytest.approx(official["classInstScores"][name], abs=1e-12, nan_ok=True)
        assert instance_iou[number] == same, name
    assert np.isfinite(instance_iou).sum() >= 4
    assert np.nanmean(instance_iou) == pytest.approx(official["averageScoreInstClasses"])

    for name, iou in category_iou(matrix, CITYSCAPES).items():
        assert iou == pytest.approx(official["categoryScores"][name], abs=1e-12, nan_ok=True), name
    by_category = stats.category_iou(matrix)
    assert set(by_category) == {"human", "vehicle"}
    for name, iou in by_category.items():
        assert iou == pytest.approx(official["categoryInstScores"][name], abs=1e-12), name
    assert stats.images == len(samples)
    assert sys.modules["cityscapesscripts"]


def test_a_small_instance_weighs_as_much_as_a_large_one() -> None:
    instances = np.zeros((10, 20), np.uint16)
    instances[:, :10] = 26001  # 100 pixels, seen
    instances[0, 10:] = 26002  # 10 pixels, missed
    label = np.where(instances > 0, 13, 0).astype(np.uint8)
    guess = np.where(instances == 26001, 13, 0).astype(np.uint8)
    stats = InstanceStats()
    stats.add(instances, guess)
    matrix = confusion_matrix(label, guess, 19)
    assert scores(matrix).class_iou[13] == pytest.approx(100 / 110)
    assert stats.class_iou(matrix)[13] == pytest.approx(0.5)
    assert np.isnan(stats.class_iou(matrix)[0])


def test_instances_must_fit(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="differ in shape") as caught:
        InstanceStats().add(np.zeros((2, 2), np.uint16), np.zeros((2, 3), np.uint8))
    assert caught.value.reason == "BAD_INPUT"
    (sample, _) = drawn_samples(tmp_path)
    path = tmp_path / f"{sample.name}_gtFine_instanceIds.png"
    cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    with pytest.raises(CalibrationError, match="no instance image: uint8"):
        read_instances(sample)
    path.unlink()
    assert read_instances(sample) is None
