"""Networks that give one score a pixel: two classes, on every runtime and as INT8."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import helper

from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.errors import EngineError
from rtseg.engines.one_channel import natural_threshold
from rtseg.engines.ports import ImageInput, Port, choose_output
from rtseg.engines.registry import open_engine
from tests.engines.networks import TinyNet, normalise, random_frames, upsample

F = "float32"


def save(net: TinyNet, path: Path, *, sigmoid: bool) -> Path:
    """Write a network; with ``sigmoid`` its output is a probability."""
    model = net.proto()
    if sigmoid:
        last = next(node for node in model.graph.node if net.output_name in node.output)
        last.output[0] = "logit"
        model.graph.node.append(helper.make_node("Sigmoid", ["logit"], [net.output_name]))
    onnx.save(model, str(path))
    return path


def assert_above(labels: Any, score: Any, threshold: float) -> None:
    """The second class is where the score is above, but for what rounding can turn."""
    assert set(np.unique(labels)) <= {0, 1}
    wrong = labels != (score > threshold)
    assert np.abs(score - threshold)[wrong].max(initial=0) < 1e-4
    assert 0.2 < labels.mean() < 0.8


@pytest.mark.parametrize("end", ["nchw", "nhwc"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("sigmoid", "said", "threshold"),
    [(False, None, 0.0), (True, None, 0.5), (False, 0.7, 0.7), (True, 0.8, 0.8)],
)
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "ir"])
def test_the_second_class_is_where_the_score_is_above_the_threshold(
    tmp_path: Path,
    end: str,
    stride: int,
    sigmoid: bool,
    said: float | None,
    threshold: float,
    backend: str,
) -> None:
    net = TinyNet(classes=1, end=end, stride=stride, height=32, width=64, seed=3)
    frames = random_frames(net)
    middle = np.median(net.logits(normalise(frames[0])))
    net.offset -= middle - (np.log(threshold / (1 - threshold)) if sigmoid else threshold)
    path = save(net, tmp_path / "net.onnx", sigmoid=sigmoid)
    if backend == "ir":
        openvino.save_model(openvino.convert_model(path), tmp_path / "net.xml", False)
        path, backend = tmp_path / "net.xml", "openvino"
    note: dict[str, Any] = {"bgr": False, "classes": ["other", "road"]}
    if said is not None:
        note["threshold"] = said
    Path(f"{path}.json").write_text(json.dumps(note))
    score = net.logits(normalise(frames[0]))
    if sigmoid:
        score = 1 / (1 + np.exp(-score))
    score = upsample(score, net.height, net.width)[0]
    with open_engine(path, backend=backend, precision="fp32") as engine:
        assert engine.spec.classes.names == ("other", "road")
        labels = engine.infer(frames)
    assert_above(np.asarray(labels).reshape(score.shape), score, threshold)


def test_what_is_taken_for_granted_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = TinyNet(classes=1)
    with caplog.at_level(logging.WARNING):
        adapted = adapt_onnx(save(net, tmp_path / "net.onnx", sigmoid=True))
    assert "the second class where the score is above 0.5" in caplog.text
    assert adapted.spec.classes.names == ("class_0", "class_1")
    assert adapted.guarded


@pytest.mark.parametrize(
    ("classes", "note", "complaint"),
    [
        (1, {"classes": ["a", "b", "c"]}, "one channel, which tells two classes.*Received: 3"),
        (1, {"classes": ["road"]}, "Received: 1 classes"),
        (1, {"threshold": "high"}, "threshold"),
        (4, {"threshold": 0.5}, "threshold is for an output of one channel; out has 4"),
    ],
)
def test_a_note_that_does_not_fit(
    tmp_path: Path, classes: int, note: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "net.onnx.json").write_text(json.dumps(note))
    with pytest.raises(EngineError, match=complaint) as caught:
        adapt_onnx(TinyNet(classes=classes).save(tmp_path / "net.onnx"))
    assert caught.value.reason == "BAD_INPUT"


def test_a_single_channel_that_may_be_anything_is_refused(tmp_path: Path) -> None:
    path = TinyNet(classes=1).save(tmp_path / "depth.onnx")
    with pytest.raises(
        EngineError, match=r"out has one channel.*say so in depth\.onnx\.json"
    ) as caught:
        adapt_onnx(path)
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    (tmp_path / "depth.onnx.json").write_text('{"output": "out"}')
    assert len(adapt_onnx(path).spec.classes) == 2


def test_a_single_score_is_taken_only_where_there_is_nothing_else() -> None:
    image = ImageInput("image", F, "nchw", 64, 64)
    depth, scores = Port("depth", F, (1, 1, 64, 64)), Port("scores", F, (1, 5, 16, 16))
    ids = Port("ids", "int64", (1, 16, 16))
    assert choose_output([depth, scores], image).name == "scores"
    assert choose_output([depth, ids], image).name == "ids"
    assert choose_output([depth, scores], image, "depth").channels == 1
    assert choose_output([depth], image).channels == 1


@pytest.mark.parametrize(
    ("operations", "threshold"),
    [
        (["Sigmoid", "Conv"], 0.5),
        (["Transpose", "Resize", "Sigmoid"], 0.5),
        (["Gather", "Slice", "Sigmoid"], 0.5),  # of one picture
        (["DequantizeLinear", "QuantizeLinear", "Sigmoid"], 0.5),
        (["Conv", "Sigmoid"], None),
        (["Add", "Sigmoid"], None),
        ([], None),
    ],
)
def test_only_a_sigmoid_at_the_end_makes_a_probability(
    operations: list[str], threshold: float | None
) -> None:
    assert natural_threshold(operations) == threshold
