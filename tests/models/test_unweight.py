"""Class weights taken back out of a network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

from rtseg.models.errors import ModelError  # noqa: E402
from rtseg.models.registry import build, load_weights  # noqa: E402
from rtseg.models.unweight import unweight  # noqa: E402
from rtseg.tools.rt_seg_model import main  # noqa: E402


def test_the_factor_of_each_class_is_divided_out() -> None:
    model = build("fast-scnn", 64, 64)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    before = np.asarray(keras.ops.softmax(model(images)))
    weights = np.linspace(0.5, 2, 19).astype(np.float32)
    unweight(model, weights, 1.0)
    after = np.asarray(keras.ops.softmax(model(images)))
    expected = before / weights
    assert after == pytest.approx(expected / expected.sum(-1, keepdims=True), rel=1e-3)


def test_strength_of_zero_changes_nothing_and_halves_add_up() -> None:
    weights = np.linspace(0.5, 2, 19).astype(np.float32)
    model = build("fast-scnn", 64, 64)
    start = np.array(model.get_layer("logits").bias)
    unweight(model, weights, 0.0)
    assert np.array_equal(model.get_layer("logits").bias, start)
    unweight(model, weights, 0.5)
    unweight(model, weights, 0.5)
    assert np.asarray(model.get_layer("logits").bias) == pytest.approx(
        start - np.log(weights), abs=1e-6
    )


def test_networks_without_such_a_layer_are_refused() -> None:
    weights = np.ones(7, np.float32)
    with pytest.raises(ModelError, match="no bias for each of 7 classes"):
        unweight(build("fast-scnn", 64, 64), weights, 0.5)
    with pytest.raises(ModelError, match="Allowed: 0 to 1"):
        unweight(build("fast-scnn", 64, 64), np.ones(19, np.float32), 1.5)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = np.zeros((64, 64), np.uint8)
    label[:4] = 12
    folders = ("leftImg8bit/train/aachen", "gtFine/train/aachen")
    names = ("a_000000_000000_leftImg8bit.png", "a_000000_000000_gtFine_labelTrainIds.png")
    for folder, name, image in zip(
        folders, names, (np.full((64, 64, 3), 90, np.uint8), label), strict=True
    ):
        (tmp_path / "city" / folder).mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / "city" / folder / name), image)
    config = tmp_path / "run.json"
    config.write_text(
        '{"network": "fast-scnn", "sources": [{"root": "city", "share": 1}], "weight_cap": 2.0}'
    )
    model = build("fast-scnn")
    weights, out = tmp_path / "in.weights.h5", tmp_path / "out.weights.h5"
    model.save_weights(weights)
    before = np.array(model.get_layer("logits").bias)
    command = ["unweight", str(config), str(weights), "--data", str(tmp_path), "--out", str(out)]
    assert main(command) == 0
    load_weights(model, str(out))
    change = np.asarray(model.get_layer("logits").bias) - before
    assert change[12] == pytest.approx(-0.5 * np.log(2))
    assert change[0] > 0  # road is most of the picture and weighed less than 1
    assert "rider 2.00" in capsys.readouterr().out
    assert main(command) == 2  # the file is there
    assert "-y replaces it" in capsys.readouterr().err
