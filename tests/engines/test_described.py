"""What other tools write into their files is read, and a note says more."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.described import described_by_onnx
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.sidecar import Sidecar
from tests.engines.networks import TinyNet

ULTRALYTICS = {
    "description": "Ultralytics YOLO26n-sem model",
    "author": "Ultralytics",
    "task": "semantic",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    "names": str(dict(enumerate(CITYSCAPES.names))),
}
GETI = {
    "model_info labels": "road sky rest",
    "model_info mean_values": "123.675 116.28 103.53",
    "model_info scale_values": "58.395 57.12 57.375",
    "model_info reverse_input_channels": "True",
}


def save(folder: Path, said: dict[str, str], net: TinyNet, note: dict[str, Any] | None) -> Path:
    model = net.proto()
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(folder / "net.onnx"))
    if note is not None:
        (folder / "net.onnx.json").write_text(json.dumps(note))
    return folder / "net.onnx"


def metadata(said: dict[str, str]) -> Any:
    model = onnx.ModelProto()
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    return model


@pytest.mark.parametrize("end", ["nchw", "nhw"])
def test_a_file_of_ultralytics_needs_no_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    path = save(tmp_path, ULTRALYTICS, TinyNet(end=end), None)
    with caplog.at_level(logging.WARNING):
        spec = adapt_onnx(path).spec
    assert not caplog.records
    assert (spec.mean, spec.std, spec.scale, spec.bgr) == ((0, 0, 0), (1, 1, 1), 255, False)
    assert spec.pad == 114
    assert spec.classes is CITYSCAPES
    assert spec.licence == ULTRALYTICS["license"]


def test_numbers_are_no_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = ULTRALYTICS | {"names": str({n: str(n) for n in range(12)})}
    with caplog.at_level(logging.WARNING):
        spec = adapt_onnx(save(tmp_path, said, TinyNet(classes=12), None)).spec
    assert spec.classes.names[0] == "class_0"
    assert "classes: 12 without names" in caplog.text
    assert "mean" not in caplog.text.split("assumed:")[1].split("If that")[0]


def test_a_file_of_the_model_api_needs_no_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        spec = adapt_onnx(save(tmp_path, GETI, TinyNet(classes=3, height=30), None)).spec
    assert not caplog.records
    assert spec.mean == (123.675, 116.28, 103.53)
    assert spec.std == (58.395, 57.12, 57.375)
    assert (spec.scale, spec.bgr) == (1, False)
    assert spec.classes.names == ("road", "sky", "rest")


@pytest.mark.parametrize(
    ("said", "pad"),
    [
        ({}, None),
        ({"model_info resize_type": "standard", "model_info pad_value": "114"}, None),
        ({"model_info resize_type": "fit_to_window_letterbox"}, 0),
        ({"model_info resize_type": "fit_to_window_letterbox", "model_info pad_value": "9"}, 9),
        ({"model_info resize_type": "fit_to_window", "model_info pad_value": "-1"}, 0),
    ],
)
def test_whether_frames_keep_their_shape(said: dict[str, str], pad: int | None) -> None:
    assert described_by_onnx(metadata(GETI | said)).pad == pad


def test_a_note_may_let_frames_fill_the_input(tmp_path: Path) -> None:
    spec = adapt_onnx(save(tmp_path, ULTRALYTICS, TinyNet(), {"pad": False})).spec
    assert spec.pad is None
    assert spec.mean == (0, 0, 0)


def test_channels_as_they_come_are_no_word_on_their_order() -> None:
    said = described_by_onnx(metadata(GETI | {"model_info reverse_input_channels": "NO"}))
    assert said.bgr is None


def test_a_network_with_its_preprocessing_inside_takes_what_is_there() -> None:
    said = described_by_onnx(metadata(GETI | {"model_info embedded_processing": "YES"}))
    assert (said.mean, said.std, said.scale) == ((0, 0, 0), (1, 1, 1), 1)


@pytest.mark.parametrize(
    ("note", "mean", "names"),
    [
        ({"scale": 1}, (0.485, 0.456, 0.406), ("road", "sky", "rest")),
        ({"classes": ["a", "b", "c"]}, (123.675, 116.28, 103.53), ("a", "b", "c")),
        ({"use_channels": 2}, (123.675, 116.28, 103.53), ("class_0", "class_1")),
    ],
)
def test_a_note_says_more_than_the_file(
    tmp_path: Path, note: dict[str, Any], mean: tuple[float, ...], names: tuple[str, ...]
) -> None:
    spec = adapt_onnx(save(tmp_path, GETI, TinyNet(classes=3, height=30), note)).spec
    assert spec.mean == mean
    assert spec.classes.names == names


def test_names_that_do_not_fit_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = adapt_onnx(save(tmp_path, GETI, TinyNet(classes=5), None)).spec
    assert spec.classes.names[-1] == "class_4"
    assert "classes: 5 without names" in caplog.text


def test_a_network_that_takes_uint8_takes_it_as_it_is(tmp_path: Path) -> None:
    spec = adapt_onnx(save(tmp_path, ULTRALYTICS, TinyNet(dtype="uint8"), None)).spec
    assert (spec.mean, spec.std, spec.scale) == ((0, 0, 0), (1, 1, 1), 1)
    assert spec.classes is CITYSCAPES


def test_one_name_is_of_two_classes() -> None:
    said = described_by_onnx(metadata(ULTRALYTICS | {"names": "{0: 'road'}"}))
    assert said.classes is not None
    assert said.classes.names == ("other", "road")


def test_other_tasks_and_authors_say_nothing() -> None:
    for change in ({"author": "somebody"}, {"task": "detect"}):
        assert described_by_onnx(metadata(ULTRALYTICS | change)) == Sidecar()


@given(
    st.dictionaries(st.sampled_from(sorted(ULTRALYTICS | GETI)), st.text(max_size=30)),
    st.booleans(),
)
def test_whatever_stands_there_is_no_crash(said: dict[str, str], ours: bool) -> None:
    if ours:
        said |= {"author": "Ultralytics", "task": "semantic"}
    found = described_by_onnx(metadata(said))
    assert found.std is None or 0 not in found.std
