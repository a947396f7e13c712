"""FP16-typed networks: the same classes; what must not be FP16 is not."""

from __future__ import annotations

import json
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
from rtseg.engines.deployable import read_deployable
from rtseg.engines.errors import EngineError
from rtseg.engines.half import SMALLEST_SCALE, half_types
from rtseg.engines.registry import open_engine
from rtseg.engines.shipped import shipped_models
from rtseg.engines.spec import METADATA_KEY, EngineSpec
from tests.calibration.nets import SIZE, Builder, save_images, save_network, tiny_network
from tests.data import shared_data
from tests.engines.networks import TinyNet, random_frames


def run(model: Any, data: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    # As the file says: optimised, ONNX Runtime 1.31 leaves out casts, and computes FP16 scales
    # of Q/DQ wrongly.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
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


def conv_types(model: Any) -> set[int]:
    types = types_of(model)
    return {types[node.output[0]] for node in model.graph.node if node.op_type == "Conv"}


def test_convolutions_are_fp16_and_both_ends_are_not() -> None:
    model = tiny_network()
    half = to_fp16(model)
    types = types_of(half)
    assert conv_types(half) == {TensorProto.FLOAT16}
    assert types["norm_out"] == types["enlarge_out"] == TensorProto.FLOAT
    assert not [t.name for t in half.graph.initializer if t.data_type == 1 and t.name[-2:] == "_w"]
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
    assert conv_types(after) == {TensorProto.FLOAT16}
    types = types_of(after)
    for node in after.graph.node:
        if node.op_type == "DequantizeLinear":
            assert types[node.output[0]] == TensorProto.FLOAT16
    weights = [
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer if t.data_type == 3}
        for m in (before, after)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    frames = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    assert (run(before, frames) == run(after, frames)).mean() > 0.98


def test_scales_of_dead_channels_fit_into_fp16(tmp_path: Path) -> None:
    """A scale of 1e-10 is 0 in FP16; the channel's codes move to one that is not."""
    source = tmp_path / "tiny.onnx"
    model = tiny_network()
    for weight in model.graph.initializer:
        if weight.name == "expand2_w":
            values = numpy_helper.to_array(weight).copy()
            values[3] = 1e-9
            values[4] *= 1e-4
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, source)
    quantise_onnx(source, select_images(save_images(tmp_path / "i", 2)), tmp_path / "int8.onnx")
    before = onnx.load(tmp_path / "int8.onnx")
    result = half_types(before)
    assert not result.kept
    scales = [t for t in result.model.graph.initializer if t.data_type == TensorProto.FLOAT16]
    smallest = [numpy_helper.to_array(t).min() for t in scales if "scale" in t.name]
    assert min(smallest) == SMALLEST_SCALE
    frames = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    assert (run(before, frames) == run(result.model, frames)).mean() > 0.98


def test_what_fp16_cannot_hold_stays_fp32() -> None:
    model = tiny_network()
    for weight in model.graph.initializer:
        if weight.name == "refine_w":
            values = numpy_helper.to_array(weight) * 1e6
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    result = half_types(model)
    assert list(result.kept) == ["refine"]
    assert "FP16 to 65504" in result.kept["refine"]
    assert conv_types(result.model) == {TensorProto.FLOAT, TensorProto.FLOAT16}
    frames = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    assert (run(result.model, frames) == run(model, frames)).mean() > 0.99


def test_operators_that_fp16_harms_stay_fp32() -> None:
    """A square root amid convolutions: FP32 between two Casts."""
    net = TinyNet(root=True)
    result = half_types(net.proto())
    types = types_of(result.model)
    assert types["root"] == TensorProto.FLOAT
    assert types["hidden"] == TensorProto.FLOAT16
    assert set(result.half) >= {"n_hidden", "n_hidden_relu"}


def float_network(kind: str = "Conv", weight: float = 1.5, *, opset: int = 17) -> Any:
    values = np.full((1, 1, 1, 1), weight, np.float32)
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "w"], ["y"], "only")],
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 4])],
        [numpy_helper.from_array(values, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (float_network("Mul"), "has no FP32 convolution"),
        (float_network(weight=7e4), "has no FP32 convolution"),
        (TinyNet(quantised=True).proto(), "opset 19 .*Received: the network of opset 17"),
        (TinyNet(dtype="float16").proto(), "FP16 already"),
    ],
)
def test_what_is_not_converted(model: Any, complaint: str) -> None:
    with pytest.raises(EngineError, match=complaint):
        to_fp16(model)


def test_float_ends_stay_fp32() -> None:
    net = TinyNet(opset=17)
    half = to_fp16(net.proto())
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    picture = np.random.default_rng(0).normal(0, 1, (1, 3, 32, 48)).astype(np.float32)
    np.testing.assert_allclose(run(half, picture)[0], net.logits(picture[0]), atol=0.05, rtol=0.01)


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    source = save_network(tmp_path / "tiny.onnx")
    with pytest.raises(EngineError, match="cannot write"):
        convert_fp16(source, tmp_path / "absent" / "half.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_shipped_networks_agree_on_real_streets() -> None:
    roots = [shared_data("cityscapes-512x256")]
    networks = [shipped for shipped in shipped_models() if shipped.precision == "fp32"]
    assert networks
    for shipped in networks:
        model = onnx.load(shipped.path)
        half = to_fp16(model)
        frames = list(select_images(roots, 3).frames(shipped.height, shipped.width))
        same = [(run(model, f[None]) == run(half, f[None])).mean() for f in frames]
        assert np.mean(same) > 0.999, (shipped.name, same)


def test_the_note_of_a_foreign_network_goes_into_the_new_file(tmp_path: Path) -> None:
    names = [f"k{number}" for number in range(19)]
    source = TinyNet().save(tmp_path / "net.onnx")
    note = {"scale": 64, "mean": [0, 0, 0], "std": [1, 1, 1], "bgr": True, "classes": names}
    (tmp_path / "net.onnx.json").write_text(json.dumps(note), "utf-8")
    convert_fp16(source, tmp_path / "half.onnx")
    half = onnx.load(str(tmp_path / "half.onnx"))
    spec = spec_of(half)
    assert (spec.precision, spec.scale, spec.bgr) == ("fp16", 64, True)
    assert list(spec.classes.names) == names
    frames = random_frames(TinyNet(), 1)
    wanted = run(read_deployable(source).model, frames)
    assert np.mean(run(half, frames) == wanted) > 0.98


def test_a_network_of_any_size_is_settled_at_the_one_asked_for(tmp_path: Path) -> None:
    source = TinyNet(dynamic=("hw",)).save(tmp_path / "net.onnx")
    convert_fp16(source, tmp_path / "half.onnx", (96, 64))
    spec = spec_of(onnx.load(str(tmp_path / "half.onnx")))
    assert (spec.width, spec.height) == (96, 64)


def test_scales_that_are_computed_stay_fp32(tmp_path: Path) -> None:
    """As exports with free axes write them: Shape, Cast, Div, Resize by what comes out."""
    b = Builder()
    x = b.conv("image", "first", (3, 8), kernel=3, stride=2)
    small = b.conv(x, "second", (8, 8), kernel=3, stride=3)
    wide, narrow = (
        b.node("Cast", [b.node("Shape", [y], f"{n}_shape")], f"{n}_size", to=TensorProto.FLOAT)
        for n, y in (("wide", x), ("narrow", small))
    )
    scales = b.node("Div", [wide, narrow], "scales")
    large = b.node("Resize", [small, "", scales], "enlarge", mode="linear")
    x = b.conv(b.node("Concat", [large, x], "joined", axis=1), "third", (16, 8))
    x = b.conv(x, "last", (8, 19), norm=False, relu6=False)
    frames = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    scores = helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 19, 32, 32])
    graph = helper.make_graph(b.nodes, "net", [frames], [scores], b.constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")

    convert_fp16(tmp_path / "net.onnx", tmp_path / "half.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    answers = []
    for name in ("net.onnx", "half.onnx"):
        with open_engine(tmp_path / name, backend="onnxruntime") as engine:
            answers.append(engine.infer(pixels))
    assert (answers[0] == answers[1]).mean() > 0.99
