"""Networks that are put together in other ways than ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from rtseg.calibration.calibration_set import CalibrationSet, select_images
from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.network import load_network, logits_tensor
from rtseg.calibration.qdq import always_float
from rtseg.calibration.quantise import quantise_onnx
from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.build import build_engine
from rtseg.engines.convert_fp16 import convert_fp16
from rtseg.engines.deployable import set_description
from rtseg.engines.spec import EngineSpec
from tests.calibration.nets import Builder, save_images, save_network
from tests.engines.rtx import rtx

HALF = [1, 8, 32, 32]


@pytest.fixture
def images(tmp_path: Path) -> CalibrationSet:
    return select_images(save_images(tmp_path / "images", 2))


def save(
    path: Path, middle: Callable[[Builder, str], str], functions: tuple[Any, ...] = ()
) -> Path:
    """Two convolutions, ``middle``, a convolution, the logits."""
    b = Builder()
    x = b.conv("image", "first", (3, 8), kernel=3, stride=2)
    x = middle(b, b.conv(x, "second", (8, 8), kernel=3))
    x = b.conv(x, "third", (8, 8), kernel=3)
    x = b.conv(x, "last", (8, 19), norm=False, relu6=False)
    domains = [helper.make_opsetid("", 17)]
    domains += [helper.make_opsetid(function.domain, 1) for function in functions]
    frames = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    scores = helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 19, 32, 32])
    graph = helper.make_graph(b.nodes, "odd", [frames], [scores], b.constants)
    model = helper.make_model(graph, opset_imports=domains, functions=functions, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def branch(*nodes: Any) -> Any:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, HALF)
    return helper.make_graph(list(nodes), "branch", [], [value])


def choose(b: Builder, one: Any, other: Any) -> str:
    condition = b.constant("condition", np.array(True))
    return b.node("If", [condition], "choose", then_branch=one, else_branch=other)


def behind_identity(b: Builder, x: str) -> str:
    same = b.node("Identity", [x], "same")
    return choose(
        b,
        branch(helper.make_node("Relu", [same], ["y"])),
        branch(helper.make_node("Identity", [same], ["y"])),
    )


def nested(b: Builder, x: str) -> str:
    offset = b.constant("offset", np.float32(0.5))
    moved = b.node("Add", [x, b.constant("one", np.float32(1))], "moved")
    inner = helper.make_node(
        "If",
        ["condition"],
        ["y"],
        then_branch=branch(helper.make_node("Add", [moved, offset], ["y"])),
        else_branch=branch(helper.make_node("Identity", [x], ["y"])),
    )
    return choose(b, branch(inner), branch(helper.make_node("Identity", [x], ["y"])))


def before_norm(b: Builder, x: str) -> str:
    x = b.conv(x, "raw", (8, 8), relu6=False)
    return choose(
        b,
        branch(helper.make_node("Add", ["raw_out", x], ["y"])),
        branch(helper.make_node("Identity", ["raw_out"], ["y"])),
    )


def run(path: Path, frame: Any) -> Any:
    adapted = adapt_onnx(path)
    session = onnxruntime.InferenceSession(adapted.serialise(), providers=["CPUExecutionProvider"])
    return session.run(["labels"], {"frames": frame})[0]


@pytest.mark.parametrize("middle", [behind_identity, nested, before_norm])
def test_what_a_branch_reads_is_still_there(
    middle: Callable[[Builder, str], str], images: CalibrationSet, tmp_path: Path
) -> None:
    source = save(tmp_path / "net.onnx", middle)
    report = quantise_onnx(source, images, tmp_path / "int8.onnx")
    assert {"first", "second", "third"} <= set(report.quantised)
    for frame in images.frames(64, 64):
        same = run(report.output, frame[None]) == run(source, frame[None])
        assert same.mean() > 0.9


def test_a_nested_branch_is_built_for_a_gpu(tmp_path: Path) -> None:
    rtx()
    source = save(tmp_path / "net.onnx", nested)
    build_engine(source, backend="rtx", precision="fp32", out=tmp_path / "net.engine")


def test_functions_that_a_file_brings(images: CalibrationSet, tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["t"], kernel_shape=[3, 3], pads=[1] * 4)
    block = helper.make_function(
        "maker",
        "Block",
        ["x", "w"],
        ["y"],
        [conv, helper.make_node("Relu", ["t"], ["y"])],
        [helper.make_opsetid("", 17)],
    )

    def middle(b: Builder, x: str) -> str:
        weight = b.random.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32)
        return b.node("Block", [x, b.constant("block_w", weight)], "block", domain="maker")

    source = save(tmp_path / "net.onnx", middle, (block,))
    report = quantise_onnx(source, images, tmp_path / "int8.onnx")
    assert len(report.quantised) == 4
    convert_fp16(source, tmp_path / "fp16.onnx")
    half = onnx.load(tmp_path / "fp16.onnx")
    weights = [w for w in half.graph.initializer if list(w.dims) == [8, 8, 3, 3]]
    assert {w.data_type for w in weights} == {TensorProto.FLOAT16}
    assert len(weights) == 3


def behind_the_convolutions(path: Path, tail: Callable[[Builder, str], str]) -> Path:
    b = Builder()
    x = b.conv("image", "first", (3, 8), kernel=3, stride=2)
    x = tail(b, b.conv(x, "second", (8, 19), kernel=3))
    frames = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    scores = helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 19, 32, 32])
    graph = helper.make_graph(b.nodes, "odd", [frames], [scores], b.constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_a_long_way_behind_the_last_convolution(tmp_path: Path) -> None:
    def tail(b: Builder, x: str) -> str:
        for number in range(1200):
            x = b.node("Tanh", [x], f"tanh{number}")
        return x

    network = load_network(behind_the_convolutions(tmp_path / "net.onnx", tail))
    assert [left.name for left in always_float(network)] == ["second"]


def test_many_residuals_behind_the_last_convolution(tmp_path: Path) -> None:
    def tail(b: Builder, x: str) -> str:
        for number in range(60):  # 2^60 ways back
            x = b.node("Add", [x, b.node("Sigmoid", [x], f"gate{number}")], f"sum{number}")
        return x

    network = load_network(behind_the_convolutions(tmp_path / "net.onnx", tail))
    assert logits_tensor(network) == "second_bn_out"


@pytest.mark.parametrize("keep", [("*",), 3, "first,second,third"])
def test_no_int8_file_without_int8(
    keep: tuple[str, ...] | int | str, images: CalibrationSet, tmp_path: Path
) -> None:
    source = save(tmp_path / "net.onnx", lambda b, x: x)
    with pytest.raises(CalibrationError, match=r"float|left to quantise") as caught:
        quantise_onnx(source, images, tmp_path / "int8.onnx", keep_fp32=keep)
    assert caught.value.reason == "BAD_OPTION"
    assert not (tmp_path / "int8.onnx").exists()


def test_a_described_network_of_planes_at_another_size(
    images: CalibrationSet, tmp_path: Path
) -> None:
    source = save(tmp_path / "net.onnx", lambda b, x: x)
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        for axis, length in zip(value.type.tensor_type.shape.dim[2:], "hw", strict=True):
            axis.dim_param = length + value.name
    spec = EngineSpec("mine", 64, 64, input_kind="float_nchw", output_kind="logits")
    set_description(model, spec)
    onnx.save(model, source)
    report = quantise_onnx(source, images, tmp_path / "int8.onnx", size=(96, 32))
    adapted = adapt_onnx(report.output)
    assert (adapted.spec.width, adapted.spec.height) == (96, 32)
    with pytest.raises(CalibrationError, match="is made for 32x32"):
        load_network(save_network(tmp_path / "fixed.onnx"), size=(64, 64))
