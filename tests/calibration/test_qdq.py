"""The form of the quantised graph, and that it computes what integers would."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import numpy_helper

from rtseg.calibration.network import FloatNetwork, load_network, logits_tensor
from rtseg.calibration.qdq import (
    always_float,
    insert_qdq,
    quantise_weight,
    tensors_to_quantise,
)
from tests.calibration.nets import SIZE, save_network, tiny_network

CONVS = {"stem", "dw", "project", "expand2", "dw2", "project2", "neck", "skip", "refine"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> FloatNetwork:
    return load_network(save_network(tmp_path_factory.mktemp("net") / "tiny.onnx"))


@pytest.fixture(scope="module")
def quantised(network: FloatNetwork) -> Any:
    thresholds = dict.fromkeys(tensors_to_quantise(network, CONVS), 3.0)
    return insert_qdq(network, CONVS, thresholds)


def run(model: Any, frame: np.ndarray, outputs: list[str] | None = None) -> list[np.ndarray]:
    """Run by ONNX Runtime without any graph optimisation: the nodes as they are written."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in outputs or []:
        copy.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(outputs, {copy.graph.input[0].name: frame}))


def a_frame(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)


def test_normalising_changes_nothing(tmp_path: Path) -> None:
    path = save_network(tmp_path / "tiny.onnx")
    network = load_network(path)
    kinds = Counter(node.op_type for node in network.model.graph.node)
    assert kinds["BatchNormalization"] == 0
    assert network.model.opset_import[0].version >= 19
    original = onnx.load(path)
    logits = logits_tensor(network)
    before = run(original, a_frame(), [logits])[0]
    after = run(network.model, a_frame(), [logits])[0]
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_logits_and_pooled_maps_stay_float(network: FloatNetwork) -> None:
    assert {(left.name, left.reason) for left in always_float(network)} == {
        ("pooled", "1x1 map"),
        ("logits", "logits"),
    }
    assert set(network.convs) == CONVS | {"pooled", "logits"}


def test_only_int8_with_zero_point_zero(quantised: Any) -> None:
    constants = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    nodes = [n for n in quantised.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert nodes
    for node in nodes:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        scale = constants[node.input[1]]
        assert scale.dtype == np.float32
        assert (scale > 0).all()
        assert scale.shape == zero.shape


def test_one_quantize_a_tensor_and_one_dequantize_a_reader(quantised: Any) -> None:
    made = Counter(n.input[0] for n in quantised.graph.node if n.op_type == "QuantizeLinear")
    assert set(made.values()) == {1}
    readers = Counter(name for node in quantised.graph.node for name in node.input)
    for node in quantised.graph.node:
        if node.op_type == "DequantizeLinear":
            assert readers[node.output[0]] == 1


def test_convolutions_read_int8_on_both_sides(quantised: Any) -> None:
    producers = {name: node for node in quantised.graph.node for name in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    for node in quantised.graph.node:
        if node.op_type != "Conv":
            continue
        both = [producers[n].op_type for n in node.input[:2] if n in producers]
        if node.name not in CONVS:
            assert "DequantizeLinear" not in both
            continue
        assert both == ["DequantizeLinear", "DequantizeLinear"]
        weight = producers[node.input[1]]
        codes = constants[weight.input[0]]
        assert codes.dtype == np.int8
        assert codes.min() >= -127
        axis = next(a.i for a in weight.attribute if a.name == "axis")
        assert axis == 0
        assert constants[weight.input[1]].shape == (codes.shape[0],)
        assert constants[node.input[2]].dtype == np.float32  # the bias stays float


def test_residual_adds_take_their_other_input_quantised(quantised: Any) -> None:
    producers = {name: node for node in quantised.graph.node for name in node.output}
    adds = {n.name: n for n in quantised.graph.node if n.op_type == "Add"}
    for name, residual, fused in (
        ("residual", "project_bn_out", "project2"),
        ("merge", "up_out", "skip"),
    ):
        kinds = {producers[i].op_type: producers[i] for i in adds[name].input}
        assert set(kinds) == {"Conv", "DequantizeLinear"}
        assert kinds["Conv"].name == fused
        assert kinds["DequantizeLinear"].input[0] == f"{residual}_int8"


def test_a_part_needs_no_other_tensors_than_the_whole(network: FloatNetwork) -> None:
    whole = set(tensors_to_quantise(network, CONVS))
    for name in CONVS:
        assert set(tensors_to_quantise(network, {name})) <= whole


def test_nothing_quantised_is_the_float_network(network: FloatNetwork) -> None:
    model = insert_qdq(network, set(), {})
    np.testing.assert_array_equal(run(model, a_frame())[0], run(network.model, a_frame())[0])


@pytest.mark.parametrize("name", ["stem", "dw", "project", "neck"])
def test_a_convolution_computes_what_integers_would(network: FloatNetwork, name: str) -> None:
    node = next(n for n in network.model.graph.node if n.name == name)
    limit = 2.5
    model = insert_qdq(network, {name}, {node.input[0]: limit})
    frame = a_frame(3)
    x = run(network.model, frame, [node.input[0]])[0]
    got = run(model, frame, [node.output[0]])[0]

    step = np.float32(limit / 127)
    codes = np.clip(np.rint(x / step), -128, 127).astype(np.int64)
    constants = {t.name: numpy_helper.to_array(t) for t in network.model.graph.initializer}
    weight, bias = constants[node.input[1]], constants[node.input[2]]
    scales = np.abs(weight).reshape(len(weight), -1).max(1) / 127
    integers = np.rint(weight / scales.reshape(-1, 1, 1, 1)).astype(np.int64)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    summed = integer_convolution(
        codes, integers, attributes["strides"][0], attributes["pads"][0], attributes["group"]
    )
    expected = summed * (step * scales).reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def integer_convolution(
    x: np.ndarray, weight: np.ndarray, stride: int, pad: int, group: int
) -> np.ndarray:
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    kernel = weight.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (2, 3))
    windows = windows[:, :, ::stride, ::stride]
    if group == 1:
        return np.einsum("nchwij,ocij->nohw", windows, weight)
    return np.einsum("nchwij,cij->nchw", windows, weight[:, 0])


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 4), st.just(3), st.just(3)),
        elements=st.floats(-1e3, 1e3, width=32),
    )
)
def test_weights_come_back_within_half_a_step(weight: np.ndarray) -> None:
    codes, scales = quantise_weight(weight)
    assert codes.dtype == np.int8
    assert codes.min() >= -127
    back = codes * scales.reshape(-1, 1, 1, 1)
    allowed = scales.reshape(-1, 1, 1, 1) * 0.5001 + 1e-9
    assert (np.abs(back - weight) <= allowed).all()
    for channel, code in zip(weight, codes, strict=True):
        assert np.abs(code).max() == 127 or np.abs(channel).max() < 1e-9


def test_names_of_the_network_are_not_taken(tmp_path: Path) -> None:
    model = tiny_network()
    (first, second) = [node for node in model.graph.node if node.op_type == "Conv"][:2]
    activation = second.input[0]
    for weight in model.graph.initializer:
        if weight.name == first.input[1]:
            weight.name = f"{activation}_scale"
            first.input[1] = weight.name
            break
    onnx.save(model, tmp_path / "named.onnx")
    network = load_network(tmp_path / "named.onnx")
    thresholds = dict.fromkeys(tensors_to_quantise(network, network.convs), 6.0)
    quantised = insert_qdq(network, network.convs, thresholds)
    assert len(run(quantised, a_frame())[0]) == 1
