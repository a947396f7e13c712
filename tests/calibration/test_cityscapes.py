from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.calibration.camvid import (
    CAMVID,
    find_camvid,
    from_cityscapes_table,
    read_camvid_label,
    to_cityscapes_table,
)
from rtseg.calibration.cityscapes import find_samples, label_id_table, read_image, read_label
from rtseg.calibration.errors import CalibrationError
from rtseg.engines.labels import CITYSCAPES
from tests.data import shared_data
from tests.models.scenes import scene, write_camvid, write_cityscapes


def test_samples_come_sorted_with_their_labels(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, count=3, label_size=(512, 256))
    samples = find_samples(tmp_path)
    assert [s.name for s in samples] == [f"lummerland_{n:06d}_000019" for n in range(3)]
    assert samples[0].group == "lummerland"
    assert read_image(samples[1].image).shape == (128, 256, 3)
    assert read_label(samples[1]).shape == (256, 512)


def test_images_are_rgb(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, count=1)
    image, _ = scene(0, 256, 128)
    assert np.array_equal(read_image(find_samples(tmp_path)[0].image), image)


def test_label_ids_become_train_ids(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "ids", count=1, encoding="labelIds")
    sample = find_samples(tmp_path / "ids")[0]
    _, label = scene(0, 256, 128)
    assert sample.encoding == "labelIds"
    assert np.array_equal(read_label(sample), label)


def test_the_label_id_table_is_that_of_cityscapes() -> None:
    table = label_id_table()
    assert table[7] == CITYSCAPES.index("road")
    assert table[33] == CITYSCAPES.index("bicycle")
    for void in (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255):
        assert table[void] == 255


def test_missing_folders_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such data set folder") as caught:
        find_samples(tmp_path / "nowhere")
    assert caught.value.reason == "NOT_FOUND"
    write_cityscapes(tmp_path, "train", count=1)
    with pytest.raises(CalibrationError, match="no leftImg8bit/val; splits found: train"):
        find_samples(tmp_path, "val")


def test_an_image_without_label_is_named(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, count=2)
    next(iter((tmp_path / "gtFine").rglob("*000001*.png"))).unlink()
    with pytest.raises(CalibrationError, match=r"image without label: .*000001_000019_left"):
        find_samples(tmp_path)
    assert len(find_samples(tmp_path, labels=False)) == 2


def test_a_half_downloaded_image_is_named(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, count=1)
    sample = find_samples(tmp_path)[0]
    sample.image.write_bytes(b"")
    with pytest.raises(CalibrationError, match=r"\(0 bytes\) is no complete image"):
        read_image(sample.image)
    assert sample.label is not None
    sample.label.write_bytes(sample.label.read_bytes()[:40])
    with pytest.raises(CalibrationError, match="no complete image") as caught:
        read_label(sample)
    assert caught.value.reason == "BAD_DATA"


def test_a_wrong_encoding_is_found(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, count=1)
    sample = find_samples(tmp_path)[0]
    cv2.imwrite(str(sample.label), np.full((4, 4), 26, np.uint8))
    with pytest.raises(CalibrationError, match=r"holds \[26\]; labelTrainIds allows 0\.\.18"):
        read_label(sample)
    cv2.imwrite(str(sample.label), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(CalibrationError, match="no label image") as caught:
        read_label(sample)
    assert caught.value.reason == "BAD_LABEL"


def test_camvid_maps_there_and_back(tmp_path: Path) -> None:
    there, back = to_cityscapes_table(), from_cityscapes_table()
    for number, name in enumerate(CAMVID.names):
        if name == "bicyclist":
            assert there[number] == 255
        else:
            assert back[there[number]] == number
    write_camvid(tmp_path)
    label = read_camvid_label(find_camvid(tmp_path)[0])
    assert set(np.unique(label)) <= {*range(11), 255}
    assert there[label].max() == 255


def test_camvid_refuses_other_ids(tmp_path: Path) -> None:
    write_camvid(tmp_path)
    sample = find_camvid(tmp_path)[0]
    cv2.imwrite(str(sample.label), np.full((4, 4), 12, np.uint8))
    with pytest.raises(CalibrationError, match=r"holds 12; CamVid allows 0\.\.11"):
        read_camvid_label(sample)
    next(iter((tmp_path / "trainannot").iterdir())).unlink()
    with pytest.raises(CalibrationError, match="image without label"):
        find_camvid(tmp_path)


@pytest.mark.parametrize(
    ("root", "split", "count"),
    [
        ("cityscapes-256x128", "train", 2974),
        ("cityscapes-512x256", "val", 267),
        ("cityscapes-2048x1024", "train", 22),
    ],
)
def test_the_real_roots_read(root: str, split: str, count: int) -> None:
    samples = find_samples(shared_data(root), split)
    assert len(samples) == count
    for sample in samples[:: len(samples) // 3]:
        assert read_image(sample.image).shape[2] == 3
        label = read_label(sample)
        assert (label != 255).mean() > 0.5


def test_real_camvid_reads() -> None:
    samples = find_camvid(shared_data("camvid"), "val")
    assert len(samples) == 101
    assert read_camvid_label(samples[0]).shape == (360, 480)
