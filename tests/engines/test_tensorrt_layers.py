"""Lines of real build logs, shortened."""

from __future__ import annotations

import json

import pytest

from rtseg.engines.tensorrt_layers import Layer, read_layers
from tests.engines.rtx import layer_of

RTX = (
    "Name: neck_U78_myl0_64, LayerType: correlation, Inputs: [ { Name: a, Dimensions: "
    "[-1,64,16,16], Strides: [16384,1,1024,64], StrideOrder: [3,0,2,1], Datatype: Half, Format: "
    "(NHWC) Channel major format }], Constants: [ { Name: w, Dimensions: [96,64,1,1], Strides: "
    "[64,1,64,64], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }, "
    "{ Name: alpha, Dimensions: [1], Strides: [1], StrideOrder: [0], Datatype: Float, Format: "
    "(Linear) Row major linear format }], Outputs: [ { Name: b, Dimensions: [-1,96,16,16], "
    "Strides: [24576,1,1536,96], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel "
    "major format }], TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: neck]"
    "[ONNX Layer: neck_act]"
)
TENSORRT_10 = (
    "Name: conv + relu, LayerType: CaskConvolution, Inputs: [ { Name: x, Location: Device, "
    "Dimensions: [1,3,32,32], Format/Datatype: Channel major FP16 format where channel % 8 == 0 "
    "}], Outputs: [ { Name: y, Location: Device, Dimensions: [1,8,32,32], Format/Datatype: Row "
    "major linear FP32 }], ParameterType: Convolution, Kernel: [3,3], TacticName: sm80_xmma, "
    "StreamId: 0, Metadata: [ONNX Layer: conv]\x1e[ONNX Layer: relu]"
)
EMPTY = "Name: shape, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: "


def test_layers_of_tensorrt_rtx() -> None:
    (layer,) = read_layers(["Reading calibration", RTX, RTX])
    half = ("Half",)
    nodes = ("neck", "neck_act")
    assert layer == Layer("neck_U78_myl0_64", "correlation", half, half, half, nodes)
    assert layer.precision == "Half"


def test_layers_of_tensorrt_10() -> None:
    (layer,) = read_layers([TENSORRT_10])
    assert (layer.inputs, layer.outputs) == (("Half",), ("Float",))
    assert layer.nodes == ("conv", "relu")
    assert layer.precision == "Half"


def test_a_layer_without_tensors() -> None:
    (layer,) = read_layers([EMPTY])
    assert layer.inputs == layer.weights == layer.outputs == layer.nodes == ()
    assert layer.precision == ""


@pytest.mark.parametrize(
    ("inputs", "weights", "expected"),
    [
        (("Int8", "Half"), ("Int8", "Half"), "Int8"),
        (("Half",), ("Int8", "Half"), "Half"),  # weights alone are stored in INT8
        (("Float",), ("Float",), "Float"),
        (("UInt8",), ("Float",), "UInt8"),
        (("Half", "Float"), (), "Half"),
    ],
)
def test_the_type_that_is_multiplied_in(
    inputs: tuple[str, ...], weights: tuple[str, ...], expected: str
) -> None:
    assert Layer("x", "correlation", inputs, weights, (), ()).precision == expected


def test_the_layer_of_a_node_is_the_one_with_its_weights() -> None:
    around = Layer("a", "kgen", ("Half",), ("Half",), ("Int8",), ("conv", "act"))
    inside = Layer("b", "correlation", ("Int8",), ("Int8",), ("Half",), ("conv",))
    assert layer_of([around, inside], "conv") is inside
    assert layer_of([around, inside], "act") is around
    assert layer_of([around, inside], "absent") is None


def test_json_and_back() -> None:
    (layer,) = read_layers([RTX])
    assert Layer.from_json(json.loads(json.dumps(layer.to_json()))) == layer
