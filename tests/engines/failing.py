"""A network that runs well on most frames and fails on some, inside the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.spec import EngineSpec
from tests.engines.networks import attach

FAILS_AT = 7
"""The network cannot cope with frames whose first value is this."""

SIZE = 32


def bad_frames(number: int) -> NDArray[np.uint8]:
    """Return a frame on which the network fails; each ``number`` up to 255 asks for another shape.

    OpenVINO does not look at a shape again that it was asked for before, even if it failed.
    """
    frames = np.full((1, SIZE, SIZE, 3), FAILS_AT, np.uint8)
    frames[0, 0, 0, 1] = number
    return frames


def save_failing_network(path: Path) -> Path:
    """Write a network whose Reshape asks for an impossible shape on some frames."""
    constants = {
        "bad": np.array(FAILS_AT, np.int64),
        "step": np.array(1000003, np.int64),
        "one": np.array(1, np.int64),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "rest": np.array([-1], np.int64),
        "flat": np.array([-1], np.int64),
        "grid": np.array([1, SIZE, SIZE], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["frames"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "flat"], ["line"]),
        helper.make_node("Gather", ["line", "first"], ["value"]),
        helper.make_node("Equal", ["value", "bad"], ["is_bad"]),
        helper.make_node("Cast", ["is_bad"], ["factor"], to=TensorProto.INT64),
        helper.make_node("Gather", ["line", "second"], ["number"]),
        helper.make_node("Add", ["number", "step"], ["too_many"]),
        helper.make_node("Mul", ["factor", "too_many"], ["extra"]),
        helper.make_node("Add", ["extra", "one"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["shape"], axis=0),
        helper.make_node("ReduceMax", ["whole"], ["ids"], axes=[3], keepdims=0),
        helper.make_node("Reshape", ["ids", "shape"], ["table"], name="impossible"),
        # Without something between the two, ONNX Runtime makes one Reshape of them.
        helper.make_node("Abs", ["table"], ["same_table"]),
        helper.make_node("Reshape", ["same_table", "grid"], ["square"]),
        helper.make_node("Cast", ["square"], ["labels"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "failing",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, SIZE, SIZE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    attach(model, EngineSpec(network="failing", height=SIZE, width=SIZE))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
