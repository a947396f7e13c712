from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.errors import EngineError
from rtseg.engines.onnxfile import (
    FreshNames,
    captured,
    explain_rejection,
    is_half,
    is_quantised,
    load_onnx,
    quantised_share,
)
from tests.engines.networks import TinyNet
from tests.engines.test_adapt import run_onnxruntime


def refused(path: Path) -> EngineError:
    with pytest.raises(EngineError) as caught:
        load_onnx(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return caught.value


def test_files_that_are_none(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.onnx").reason == "NOT_FOUND"
    assert refused(tmp_path).reason == "NOT_FOUND"
    (tmp_path / "model" / "net.xml").parent.mkdir()
    (tmp_path / "model" / "net.xml").touch()
    assert "in it: net.xml" in str(refused(tmp_path / "model"))
    assert refused(tmp_path / "absent.onnx" / "below").reason == "NOT_FOUND"
    (tmp_path / "empty.onnx").touch()
    assert refused(tmp_path / "empty.onnx").reason == "ENGINE_DAMAGED"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = TinyNet().save(tmp_path / "locked.onnx")
    path.chmod(0)
    assert refused(path).reason == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.onnx", b"this is no network\n" * 50, "ENGINE_DAMAGED"),
        ("zeros.onnx", bytes(5000), "ENGINE_DAMAGED"),
        ("net.pt", b"PK\x03\x04" + bytes(200), "ENGINE_UNSUPPORTED"),
        ("net.xml", b"<net/>" * 50, "ENGINE_UNSUPPORTED"),
        ("net.engine", b"ftrt" + bytes(200), "ENGINE_UNSUPPORTED"),
    ],
)
def test_files_that_are_something_else(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name).reason == reason


def test_an_operators_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(TinyNet().proto().SerializeToString().replace(b"Relu", b"Re\xffu"))
    assert refused(path).reason == "ENGINE_DAMAGED"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path: Path, share: float) -> None:
    whole = TinyNet().proto().SerializeToString()
    path = tmp_path / "short.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(EngineError) as caught:
        adapt_onnx(path)
    assert caught.value.reason in ("ENGINE_DAMAGED", "ENGINE_UNSUPPORTED")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_an_engine_error_or_none(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(TinyNet(height=8, width=8).proto().SerializeToString())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damaged)
    said = ""
    try:
        adapt_onnx(path)
    except EngineError as error:
        said = str(error)
    assert "\n" not in said


def test_weights_in_a_second_file_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "split.onnx"
    onnx.save(
        TinyNet(classes=30, channels=64).proto(),
        str(path),
        save_as_external_data=True,
        location="split.data",
        size_threshold=0,
    )
    assert load_onnx(path).graph.node  # as long as it is there
    (tmp_path / "split.data").unlink()
    error = refused(path)
    assert error.reason == "ENGINE_DAMAGED"
    assert "split.data" in str(error)


def test_an_unknown_operator_is_named_with_its_node(tmp_path: Path) -> None:
    model = TinyNet().proto()
    model.graph.node[1].op_type = "Blur"
    onnx.save(model, str(tmp_path / "blur.onnx"))
    error = refused(tmp_path / "blur.onnx")
    assert error.reason == "ENGINE_UNSUPPORTED"
    assert "Blur" in str(error)
    assert "n_hidden_relu" in str(error)


def test_an_unknown_operator_without_a_name_or_output(tmp_path: Path) -> None:
    """Found by benchmarks/fuzz.py: an IndexError while the message was made."""
    model = TinyNet().proto()
    node = model.graph.node[0]
    node.op_type, node.name = "Convolve", ""
    del node.output[:]
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="no operator Convolve"):
        load_onnx(path)


def test_an_empty_graph_is_damaged(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    onnx.save(helper.make_model(helper.make_graph([], "g", [value], [value])), tmp_path / "e.onnx")
    assert refused(tmp_path / "e.onnx").reason == "ENGINE_DAMAGED"


def test_precision_is_read_from_the_graph() -> None:
    assert is_quantised(TinyNet(quantised=True).proto())
    assert not is_quantised(TinyNet().proto())
    assert is_half(TinyNet(dtype="float16").proto())
    assert not is_half(TinyNet().proto())


def test_the_node_that_was_named_is_blamed() -> None:
    model = TinyNet().proto()
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][:2]
    first.name, second.name = "Conv_1", "Conv_12"
    text = explain_rejection(model, RuntimeError("bad channels in 'Conv_12' (4 and 3)"))
    assert "'Conv_12'" in text
    assert "'Conv_1'" not in text
    assert "Conv_7" in explain_rejection(model, RuntimeError("bad channels in Conv_7"))


def test_captured_tensors_of_nested_branches() -> None:
    def branch(nodes: list[Any]) -> Any:
        value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
        return helper.make_graph(nodes, "branch", [], [value])

    inner = branch([helper.make_node("Relu", ["deep"], ["y"])])
    other = branch([helper.make_node("Identity", ["shallow"], ["y"])])
    nested = helper.make_node("If", ["second"], ["y"], then_branch=inner, else_branch=other)
    node = helper.make_node("If", ["first"], ["z"], then_branch=branch([nested]), else_branch=other)
    assert captured(node) == {"deep", "shallow", "second"}
    assert captured(helper.make_node("Relu", ["x"], ["y"])) == set()


@pytest.mark.parametrize("version", [3, 6, 9])
def test_weights_among_the_inputs_are_constants(version: int, tmp_path: Path) -> None:
    plain = TinyNet(opset=11).save(tmp_path / "plain.onnx")
    model = onnx.load(plain)
    for weight in model.graph.initializer:
        listed = helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        model.graph.input.append(listed)
    model.ir_version = version
    onnx.save(model, tmp_path / "old.onnx")
    old, new = adapt_onnx(tmp_path / "old.onnx"), adapt_onnx(plain)
    assert [value.name for value in old.model.graph.input] == ["frames"]
    frame = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    assert np.array_equal(run_onnxruntime(old, frame)[0], run_onnxruntime(new, frame)[0])


@pytest.mark.parametrize("stored", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_weights_stored_in_less_are_those_of_an_fp32_network(stored: int, tmp_path: Path) -> None:
    model = TinyNet().proto()
    for weight in list(model.graph.initializer):
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        short = helper.make_tensor(f"{weight.name}_short", stored, weight.dims, values.ravel())
        cast = helper.make_node("Cast", [short.name], [weight.name], to=TensorProto.FLOAT)
        model.graph.initializer.remove(weight)
        model.graph.initializer.append(short)
        model.graph.node.insert(0, cast)
    onnx.save(model, tmp_path / "short.onnx")
    read = load_onnx(tmp_path / "short.onnx")
    assert not is_half(read)
    assert all(node.op_type != "Cast" or node.input[0] in {"image"} for node in read.graph.node)
    adapted = adapt_onnx(tmp_path / "short.onnx")
    assert adapted.spec.precision == "fp32"
    assert run_onnxruntime(adapted, np.zeros((1, 32, 48, 3), np.uint8))[0].shape == (1, 32, 48)


def test_names_that_are_taken_are_given_to_nobody() -> None:
    model = TinyNet().proto()
    fresh = FreshNames(model)
    taken = model.graph.node[0].output[0]
    assert fresh(taken) == f"{taken}_"
    assert fresh(taken) == f"{taken}__"
    assert fresh("new") == "new"


def test_share_of_convolutions_in_int8() -> None:
    def network(*kinds: str) -> onnx.ModelProto:
        nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["dq"])]
        for number, kind in enumerate(kinds):
            tensor = "dq" if kind == "Conv of INT8" else "x"
            nodes.append(helper.make_node(kind.split()[0], [tensor, "w"], [f"y{number}"]))
        return helper.make_model(helper.make_graph(nodes, "share", [], []))

    assert quantised_share(network()) == 0
    assert quantised_share(network("Conv", "Relu", "ConvTranspose")) == 0
    assert quantised_share(network("Conv of INT8", "ConvInteger", "Relu")) == 1
    assert quantised_share(network("Conv of INT8", "QLinearConv", "Conv", "Conv")) == 0.5
