"""Engines judged in a data set's classes: matched by name, whatever their order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.calibration.calibration_set import read_frame
from rtseg.calibration.cityscapes import Sample, find_samples
from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.verify import cityscapes_table, count_pixels, score_pixels, verify_engine
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.preprocess import to_engine_input
from rtseg.engines.registry import open_engine
from rtseg.realtime.nearest import NearestGrid
from tests.calibration.nets import engine_file, named
from tests.models.scenes import write_cityscapes

BACKWARDS = named(*reversed(CITYSCAPES.names))
LARGER = named("curb", *CITYSCAPES.names, "bird")


def test_classes_are_matched_by_name() -> None:
    assert cityscapes_table(CITYSCAPES)[:19].tolist() == list(range(19))
    assert cityscapes_table(BACKWARDS)[:19].tolist() == list(range(18, -1, -1))
    larger = cityscapes_table(LARGER)
    assert larger[:21].tolist() == [255, *range(19), 255]
    assert (larger[21:] == 255).all()
    spelt = named(*(name.title().replace(" ", "_") for name in CITYSCAPES.names))
    assert cityscapes_table(spelt)[:19].tolist() == list(range(19))


def test_missing_classes_are_named() -> None:
    with pytest.raises(CalibrationError, match="lacks classes of Cityscapes: train, bicycle") as e:
        cityscapes_table(named(*(n for n in CITYSCAPES.names if n not in ("train", "bicycle"))))
    assert e.value.reason == "CLASS_MISMATCH"
    assert "17 classes (road, sidewalk" in str(e.value)
    assert "\n" not in str(e.value)


def test_another_class_is_missing_from_the_true_one_alone() -> None:
    label = np.array([0, 0, 0, 1, 255, 255], np.uint8)
    guess = np.array([0, 1, 255, 1, 255, 0], np.uint8)
    counts = count_pixels(label, guess, 2)
    assert counts.tolist() == [[1, 1, 1], [0, 1, 0]]
    found = score_pixels(counts)
    assert found.class_iou.tolist() == [1 / 3, 1 / 2]
    assert found.mean_iou == pytest.approx(5 / 12)
    assert found.pixel_accuracy == 0.5
    assert found.matrix.shape == (2, 3)
    assert score_pixels(count_pixels(label[:2], guess[:2], 2)).matrix.shape == (2, 2)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return find_samples(write_cityscapes(tmp_path / "city", "val"), "val")


def test_the_order_of_the_classes_changes_nothing(tmp_path: Path, samples: list[Sample]) -> None:
    matrices = []
    for number, order in enumerate((list(range(19)), list(range(18, -1, -1)))):
        file = engine_file(tmp_path / f"{number}.onnx", order, CITYSCAPES.names)
        with open_engine(file, backend="openvino", precision="fp32") as engine:
            matrices.append(verify_engine(engine, samples).scores.matrix)
    assert np.array_equal(*matrices)
    assert np.count_nonzero(matrices[0].sum(0)) > 1


def test_a_larger_table_is_judged_and_a_smaller_one_refused(
    tmp_path: Path, samples: list[Sample]
) -> None:
    file = engine_file(tmp_path / "21.onnx", list(range(21)), LARGER.names)
    with open_engine(file, backend="openvino") as engine:
        found = verify_engine(engine, samples).scores
    assert found.class_iou.shape == (19,)
    assert found.matrix.sum() == found.pixels > 0
    file = engine_file(tmp_path / "18.onnx", list(range(18)), CITYSCAPES.names[:18])
    with (
        open_engine(file, backend="openvino") as engine,
        pytest.raises(CalibrationError, match="lacks classes of Cityscapes: bicycle"),
    ):
        verify_engine(engine, samples)


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (77, 61)])
def test_class_ids_are_enlarged_and_shrunk_as_the_loop_does(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """Judged against the loop's own answer, no pixel is wrong."""
    root = write_cityscapes(tmp_path / "city", "val", count=1)
    (sample,) = find_samples(root, "val")
    assert sample.label is not None
    file = engine_file(tmp_path / "net.onnx", list(range(19)), CITYSCAPES.names)
    with open_engine(file, backend="openvino", precision="fp32") as engine:
        pixels = to_engine_input(read_frame(sample.image), engine.spec.height, engine.spec.width)
        ids = engine.infer(pixels[None])[0]
        assert cv2.imwrite(str(sample.label), NearestGrid(ids.shape, size).scale(ids))
        found = verify_engine(engine, [sample]).scores
    assert len(np.unique(ids)) > 1
    assert found.pixel_accuracy == 1.0
