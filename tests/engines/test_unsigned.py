"""INT8 behind a ReLU as UINT8: the same to the bit, or nearer to the float values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, checker, helper, numpy_helper

from rtseg.engines.openvino_runtime import load_openvino
from rtseg.engines.processor import adds_bytes_exactly
from rtseg.engines.unsigned import quantise_unsigned

SHAPE = [1, 4, 8, 8]


def network(
    *,
    scale: Any = 0.02,
    zero: Any = 0,
    kind: str = "Clip",
    low: float = 0.0,
    dtype: type = np.float32,
    more: str = "",
) -> Any:
    """A ReLU, QuantizeLinear, DequantizeLinear, INT8 convolution; ``more`` reads on the way."""
    random = np.random.default_rng(1)
    scales = np.asarray(scale, dtype)
    constants = {
        "low": np.asarray(low, dtype),
        "high": np.asarray(6, dtype),
        "scale": scales,
        "zero": np.full(scales.shape, zero, np.int8),
        "weights": random.integers(-127, 128, (8, 4, 1, 1)).astype(np.int8),
        "weight_scales": np.full(8, 0.01, dtype),
        "weight_zeros": np.zeros(8, np.int8),
    }
    node = helper.make_node
    bounds = ["low", "high"] if kind == "Clip" else []
    nodes = [
        node(kind, ["x", *bounds], ["rectified"]),
        node("QuantizeLinear", ["rectified", "scale", "zero"], ["q"], axis=1),
        node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], axis=1),
        node("DequantizeLinear", ["weights", "weight_scales", "weight_zeros"], ["w"], axis=0),
        node("Conv", ["dq", "w"], ["y"]),
    ]
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    outputs = [helper.make_tensor_value_info("y", element, [1, 8, 8, 8])]
    if more:
        nodes.append(node("Identity", [more], ["z"]))
        kept = TensorProto.INT8 if more == "q" else element
        outputs.append(helper.make_tensor_value_info("z", kept, SHAPE))
    inputs = [helper.make_tensor_value_info("x", element, SHAPE)]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "rectified", inputs, outputs, tensors)
    graph.value_info.append(helper.make_tensor_value_info("q", TensorProto.INT8, SHAPE))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    checker.check_model(model, full_check=True)
    return model


def values(dtype: type = np.float32, seed: int = 0) -> dict[str, Any]:
    # Half of them negative, and many beyond 127 steps.
    return {"x": np.random.default_rng(seed).normal(0, 3, SHAPE).astype(dtype)}


def reference(model: Any, inputs: dict[str, Any]) -> Any:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(["y"], inputs)[0]


@settings(deadline=None, max_examples=60)
@given(
    scale=st.floats(1e-3, 0.1),
    kind=st.sampled_from(["Clip", "Relu"]),
    dtype=st.sampled_from([np.float32, np.float16]),
    seed=st.integers(0, 10**6),
)
def test_it_is_the_same_to_the_bit(scale: float, kind: str, dtype: type, seed: int) -> None:
    model = network(scale=scale, kind=kind, dtype=dtype)
    inputs = values(dtype, seed)
    before = reference(model, inputs)
    assert quantise_unsigned(model) == 1
    checker.check_model(model, full_check=True)
    assert np.array_equal(reference(model, inputs), before)
    assert quantise_unsigned(model) == 0


def test_openvino_computes_the_same() -> None:
    openvino = load_openvino()
    core = openvino.Core()
    given = []
    for unsigned in (False, True):
        model = network()
        if unsigned:
            assert quantise_unsigned(model) == 1
        compiled = core.compile_model(
            core.read_model(model.SerializeToString(), b""),
            "CPU",
            {"INFERENCE_PRECISION_HINT": "f32"},
        )
        given.append(compiled(values())[0])
    wanted = reference(network(), values())
    for each in given:
        assert np.square(each - wanted).sum() < 1e-6 * np.square(wanted).sum()


def test_finer_is_nearer_and_ends_at_the_same_value() -> None:
    for kind, scale in (("Clip", 0.02), ("Relu", 0.02), ("Clip", 0.06)):
        model = network(scale=scale, kind=kind)
        inputs = values()
        coarse = reference(model, inputs)
        assert quantise_unsigned(model, finer=True) == 1
        checker.check_model(model, full_check=True)
        finer = reference(model, inputs)
        constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        end = min(6.0 if kind == "Clip" else np.inf, 127 * scale)
        assert float(constants[model.graph.node[1].input[1]]) * 255 == pytest.approx(end)
        weights = constants["weights"][:, :, 0, 0] * np.float32(0.01)
        exact = np.einsum("oi,nihw->nohw", weights, np.clip(inputs["x"], 0, end))
        errors = [float(np.square(each - exact).sum()) for each in (coarse, finer)]
        assert errors[1] < 0.5 * errors[0]


@pytest.mark.skipif(not adds_bytes_exactly(), reason="this processor has no AVX-512 VNNI")
def test_openvino_adds_the_largest_products_exactly() -> None:
    openvino = load_openvino()
    model = network(scale=6 / 127)
    weights = next(t for t in model.graph.initializer if t.name == "weights")
    weights.CopyFrom(numpy_helper.from_array(np.full((8, 4, 1, 1), 127, np.int8), "weights"))
    assert quantise_unsigned(model, finer=True) == 1
    inputs = {"x": np.full(SHAPE, 9, np.float32)}
    core = openvino.Core()
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", config)
    assert np.allclose(compiled(inputs)[0], 6 * 4 * 1.27, rtol=1e-3)


def test_one_tensor_read_with_two_scales_keeps_them() -> None:
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.03), "other"))
    model.graph.node[2].input[1] = "other"
    inputs = values()
    before = reference(model, inputs)
    assert quantise_unsigned(model, finer=True) == 1
    assert np.array_equal(reference(model, inputs), before)


@pytest.mark.parametrize(
    ("model", "keep"),
    [
        (network(scale=[0.02] * 4), frozenset()),
        (network(zero=3), frozenset()),
        (network(low=-1.0), frozenset()),
        (network(kind="Sigmoid"), frozenset()),
        (network(more="rectified"), frozenset()),
        (network(more="q"), frozenset()),
        (network(), frozenset({"rectified"})),
    ],
    ids=[
        "a scale for each channel",
        "another zero",
        "negative values",
        "no ReLU",
        "used elsewhere",
        "the quantised used elsewhere",
        "asked for",
    ],
)
def test_what_cannot_be_unsigned_stays(model: Any, keep: frozenset[str]) -> None:
    before = model.SerializeToString()
    assert quantise_unsigned(model, keep) == 0
    assert model.SerializeToString() == before


def test_a_dequantize_without_zero_point_gets_one() -> None:
    model, plain = network(), network()
    del model.graph.node[2].input[2:]
    assert quantise_unsigned(model) == 1
    checker.check_model(model, full_check=True)
    inputs = values()
    assert np.array_equal(reference(model, inputs), reference(plain, inputs))


def test_a_type_that_is_said_goes_with_the_zero_point() -> None:
    model = network()
    model.opset_import[0].version, model.ir_version = 21, 10
    said = helper.make_attribute("output_dtype", TensorProto.INT8)
    model.graph.node[1].attribute.append(said)
    inputs = values()
    expected = reference(network(), inputs)
    assert quantise_unsigned(model) == 1
    checker.check_model(model, full_check=True)
    assert np.array_equal(reference(model, inputs), expected)
