"""FP16-typed networks: the same classes, nothing left in FP32 that computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.calibration.calibration_set import select_images
from rtseg.calibration.quantise import quantise_onnx
from rtseg.engines.convert_fp16 import convert_fp16, to_fp16
from rtseg.engines.errors import EngineError
from rtseg.engines.spec import METADATA_KEY, EngineSpec
from tests.calibration.nets import SIZE, save_images, save_network, tiny_network


def run(model: Any, data: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    output: np.ndarray = session.run(None, {model.graph.input[0].name: data})[0]
    return output


def spec_of(model: Any) -> EngineSpec:
    return EngineSpec.from_json(
        next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY)
    )


def types_of(model: Any) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}


def test_same_classes_and_no_fp32_left() -> None:
    model = tiny_network()
    half = to_fp16(model)
    assert TensorProto.FLOAT not in types_of(half).values()
    assert spec_of(half).precision == "fp16"
    assert spec_of(model).precision == "fp32"
    frames = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    assert (run(half, frames) == run(model, frames)).mean() > 0.99


def test_int8_keeps_its_integers_and_gets_fp16_scales(tmp_path: Path) -> None:
    source = save_network(tmp_path / "tiny.onnx")
    quantise_onnx(source, select_images(save_images(tmp_path / "i", 2)), tmp_path / "int8.onnx")
    convert_fp16(tmp_path / "int8.onnx", tmp_path / "half.onnx")
    before, after = onnx.load(tmp_path / "int8.onnx"), onnx.load(tmp_path / "half.onnx")
    assert spec_of(after).precision == "int8"
    assert TensorProto.FLOAT not in types_of(after).values()
    weights = [
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer if t.data_type == 3}
        for m in (before, after)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(
        (numpy_helper.to_array(t) > 0).all()
        for t in after.graph.initializer
        if t.name.endswith("_scale_fp16")
    )


def float_network(weight: float, *, opset: int = 17) -> Any:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"], "scale")],
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.full(4, weight, np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_float_ends_stay_fp32() -> None:
    model = to_fp16(float_network(1.5))
    data = np.array([[1, 2, -3, 0.25]], np.float32)
    output = run(model, data)
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output, data * 1.5)


def test_weights_beyond_fp16_are_refused() -> None:
    with pytest.raises(EngineError, match="'w' holds 70000; FP16 reaches 65504") as caught:
        to_fp16(float_network(7e4))
    assert caught.value.reason == "ENGINE_UNSUPPORTED"


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    source = save_network(tmp_path / "tiny.onnx")
    with pytest.raises(EngineError, match="cannot write"):
        convert_fp16(source, tmp_path / "absent" / "half.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
