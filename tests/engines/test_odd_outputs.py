"""Networks whose output leaves axes out, or gives class ids as floats, as wrappers often do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.engine import Engine
from rtseg.engines.onnxruntime import OnnxRuntimeEngine
from rtseg.engines.openvino import OpenVinoEngine
from rtseg.engines.openvino_ir import adapt_ir
from tests.engines.networks import TinyNet, assert_labels_of, normalise, random_frames, upsample

NODES: dict[str, list[tuple[str, dict[str, int]]]] = {
    "first": [("Gather", {"axis": 0})],
    "best": [("ArgMax", {"axis": 1, "keepdims": 0})],
    "best of a picture": [("ArgMax", {"axis": 0, "keepdims": 0})],
    "float": [("Cast", {"to": TensorProto.FLOAT})],
    "channel": [("Unsqueeze", {})],
}
ENDS = {
    "C×h×w scores": ["first"],
    "N×H×W ids in floats": ["best", "float"],
    "N×1×H×W ids in floats": ["best", "channel", "float"],
    "H×W ids in floats": ["best", "float", "first"],
    "H×W ids": ["best", "first"],
    "H×W ids of C×h×w scores": ["first", "best of a picture"],
}


def save(net: TinyNet, end: str, path: Path) -> Path:
    model = net.proto()
    tensor = model.graph.output[0].name
    for name, value in {"zero": 0, "one": [1]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    for number, part in enumerate(ENDS[end]):
        ((op_type, attributes),) = NODES[part]
        extra = {"Gather": ["zero"], "Unsqueeze": ["one"]}.get(op_type, [])
        made = f"end_{number}"
        model.graph.node.append(helper.make_node(op_type, [tensor, *extra], [made], **attributes))
        tensor = made
    del model.graph.output[:]
    model.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    found = onnx.shape_inference.infer_shapes(model).graph.value_info
    dtype = {value.name: value.type.tensor_type.elem_type for value in found}.get(tensor)
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(tensor, dtype or TensorProto.FLOAT, None)
    )
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def save_ir(path: Path) -> Path:
    openvino.save_model(openvino.convert_model(path), path.with_suffix(".xml"), False)
    return path.with_suffix(".xml")


def opened(path: Path, backend: str, cache: Path) -> Engine:
    if backend == "onnxruntime":
        return OnnxRuntimeEngine(path)
    return OpenVinoEngine(path, precision="fp32", cache_dir=cache)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "ir"])
@pytest.mark.parametrize("end", list(ENDS))
def test_it_is_used_from_its_scores_on(tmp_path: Path, end: str, backend: str) -> None:
    net = TinyNet(end="nchw", classes=21, height=24, width=36, stride=3)
    path = save(net, end, tmp_path / "net.onnx")
    with opened(save_ir(path) if backend == "ir" else path, backend, tmp_path) as engine:
        assert len(engine.spec.classes) == 21
        frames = random_frames(net)
        labels = engine.infer(frames)[0]
    scores = net.logits(normalise(frames[0]))
    assert_labels_of(labels, upsample(scores, 24, 36), 1e-3)


@pytest.mark.parametrize("kind", ["onnx", "ir"])
@pytest.mark.parametrize("end", list(ENDS))
def test_numbers_that_are_none_show(tmp_path: Path, end: str, kind: str) -> None:
    path = save(TinyNet(end="nchw", classes=21), end, tmp_path / "net.onnx")
    adapted = adapt_onnx(path) if kind == "onnx" else adapt_ir(openvino.Core(), save_ir(path))
    assert adapted.guarded


def test_a_single_score_without_its_axes_is_a_mask(tmp_path: Path) -> None:
    net = TinyNet(end="nchw", classes=1, height=24, width=24, stride=1)
    path = save(net, "C×h×w scores", tmp_path / "net.onnx")
    (tmp_path / "net.onnx.json").write_text('{"classes": ["other", "road"], "threshold": 0.1}')
    frames = random_frames(net)
    expected: Any = net.logits(normalise(frames[0]))[0] > 0.1
    with OnnxRuntimeEngine(path) as engine:
        labels = engine.infer(frames)[0]
    assert (labels == expected).mean() > 0.999
