"""Graphs that TensorRT refuses or gets wrong: our check says so first, and the builder agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.errors import EngineError
from rtseg.engines.tensorrt_checks import check_buildable, find_problems
from tests.calibration.nets import tiny_network
from tests.engines.networks import TinyNet
from tests.engines.rtx import build_bare

PICTURE = ("frames", TensorProto.FLOAT, [1, 3, 8, 8])
FRAMES = ("frames", TensorProto.UINT8, [1, 8, 8, 3])
KERNEL = {"w": np.ones((4, 3, 1, 1), np.float32)}
STEP = {"s": np.float32(0.1)}
ROI = {
    "roi": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
    "scales": np.array([1, 1, 2, 2], np.float32),
}


def node(kind: str, inputs: str, output: str, name: str, **attributes: Any) -> Any:
    names = ["" if n == "-" else n for n in inputs.split()]
    return helper.make_node(kind, names, [output], name, **attributes)


def graph(nodes: list[Any], source: Any, constants: dict[str, Any], shape: list[Any]) -> Any:
    made = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info(*source)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def quantised(zero: Any) -> Any:
    names = "s" if zero is None else "s z"
    return graph(
        [
            node("QuantizeLinear", f"frames {names}", "q", "small"),
            node("DequantizeLinear", f"q {names}", "d", "large"),
            node("Conv", "d w", "out", "conv"),
        ],
        PICTURE,
        {**KERNEL, **STEP, **({} if zero is None else {"z": zero})},
        [1, 4, 8, 8],
    )


TO_FLOAT = {"to": TensorProto.FLOAT}
BAD = {
    "transpose of uint8": graph(
        [
            node("Transpose", "frames", "t", "flip", perm=[0, 3, 1, 2]),
            node("Cast", "t", "out", "cast", **TO_FLOAT),
        ],
        FRAMES,
        {},
        [1, 3, 8, 8],
    ),
    "gather of uint8": graph(
        [
            node("Gather", "frames order", "g", "flip", axis=3),
            node("Cast", "g", "out", "cast", **TO_FLOAT),
        ],
        FRAMES,
        {"order": np.array([2, 1, 0])},
        [1, 8, 8, 3],
    ),
    "int32 bias": graph(
        [
            node("DequantizeLinear", "b s", "bias", "flip"),
            node("Conv", "frames w bias", "out", "conv"),
        ],
        PICTURE,
        {**KERNEL, **STEP, "b": np.ones(4, np.int32)},
        [1, 4, 8, 8],
    ),
    "quantised scalar": graph(
        [
            node("DequantizeLinear", "k s z", "factor", "flip"),
            node("Mul", "frames factor", "out", "mul"),
        ],
        PICTURE,
        {**STEP, "k": np.int8(5), "z": np.int8(0)},
        [1, 3, 8, 8],
    ),
    "region of interest": graph(
        [
            node(
                "Resize",
                "frames roi scales",
                "out",
                "flip",
                mode="linear",
                coordinate_transformation_mode="tf_crop_and_resize",
            )
        ],
        PICTURE,
        ROI,
        [1, 3, 16, 16],
    ),
    "zero point": quantised(np.int8(3)),
    "uint8 zero point": quantised(np.uint8(128)),
}
WRONG = {"uint8, zero point 0": quantised(np.uint8(0)), "no zero point": quantised(None)}
GOOD = {
    "region that is not used": graph(
        [node("Resize", "frames roi scales", "out", "up", mode="linear")],
        PICTURE,
        ROI,
        [1, 3, 16, 16],
    ),
    "int8": quantised(np.int8(0)),
    "ours": tiny_network(opset=19),
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_builder_refuses_is_refused_before(name: str) -> None:
    found = find_problems(BAD[name])
    assert found
    assert {problem.node for problem in found} <= {"flip", "small", "large"}
    built, complaints = build_bare(BAD[name])
    assert not built
    assert complaints


@pytest.mark.parametrize("name", WRONG)
def test_what_the_builder_gets_wrong_is_refused(name: str) -> None:
    """It takes UINT8 for INT8 and says nothing that stops a build: accuracy is gone."""
    reasons = [problem.reason for problem in find_problems(WRONG[name])]
    assert len(reasons) == 2
    assert all("UINT8" in reason for reason in reasons)
    assert build_bare(WRONG[name])[0]


@pytest.mark.parametrize("name", GOOD)
def test_what_the_builder_takes_is_not_refused(name: str) -> None:
    assert find_problems(GOOD[name]) == []
    assert build_bare(GOOD[name])[0]


def test_a_free_size_is_refused_and_a_free_batch_is_not() -> None:
    assert find_problems(TinyNet(dynamic=("n",)).proto()) == []
    (found,) = find_problems(TinyNet(dynamic=("n", "hw")).proto())
    assert (found.node, found.operator) == ("image", "input")
    assert "axis 3 has no fixed length" in found.reason


def test_the_error_is_one_line_with_names() -> None:
    with pytest.raises(EngineError) as caught:
        check_buildable(BAD["int32 bias"], "street")
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    assert str(caught.value).startswith(
        "TensorRT cannot build street: DequantizeLinear 'flip': takes INT32"
    )
    assert "\n" not in str(caught.value)
