"""FP16 tried on frames: what leaves its range is refused with the node's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.half_check import LARGEST_HALF, check_half
from rtseg.engines.convert_fp16 import to_fp16
from tests.calibration.nets import SIZE, SPEC, tiny_network

pytest.importorskip("onnxruntime")


def frames(count: int = 2) -> list[Any]:
    return [
        np.random.default_rng(n).integers(0, 256, (SIZE, SIZE, 3), np.uint8) for n in range(count)
    ]


def scaled(name: str, factor: float) -> Any:
    """The test network with one constant multiplied."""
    model = tiny_network()
    for weight in model.graph.initializer:
        if weight.name == name:
            values = numpy_helper.to_array(weight) * np.float32(factor)
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
            return model
    raise AssertionError(f"no constant {name}")


def test_a_network_that_fits() -> None:
    model = tiny_network()
    found = check_half(model, to_fp16(model), SPEC, frames(3))
    assert found.frames == 3
    assert found.agreement > 0.98
    assert 0 < found.largest < LARGEST_HALF
    assert found.largest_at


def test_an_overflow_names_its_node() -> None:
    model = scaled("stem_w", 5e4)
    half = to_fp16(model)
    with pytest.raises(CalibrationError, match=r"in FP16: Conv 'stem' reaches .* on frame 1") as e:
        check_half(model, half, SPEC, frames())
    assert e.value.reason == "BAD_ACTIVATIONS"
    assert "\n" not in str(e.value)


def test_one_class_where_there_were_several() -> None:
    model = tiny_network()
    dead = to_fp16(model)
    for node in dead.graph.node:
        if node.op_type == "ArgMax":
            cut = onnx.helper.make_node("Mul", [node.input[0], "nothing"], ["cut"], "cut")
            kind = onnx.TensorProto.FLOAT
            dead.graph.initializer.append(onnx.helper.make_tensor("nothing", kind, [], [0.0]))
            place = list(dead.graph.node).index(node)
            node.input[0] = "cut"
            dead.graph.node.insert(place, cut)
            break
    with pytest.raises(CalibrationError, match="gives class 0 to every pixel of 2 frames"):
        check_half(model, dead, SPEC, frames())


def test_frames_are_needed() -> None:
    model = tiny_network()
    with pytest.raises(CalibrationError) as caught:
        check_half(model, to_fp16(model), SPEC, [])
    assert caught.value.reason == "NO_IMAGES"


def test_scales_in_fp16_are_not_multiplied_to_nothing(tmp_path: Any) -> None:
    """ONNX Runtime would make the biases' scales of those in FP16."""
    from rtseg.calibration.network import load_network
    from rtseg.calibration.qdq import insert_qdq, tensors_to_quantise
    from rtseg.engines.onnxfile import unsafe_optimizers

    onnx.save(tiny_network(), tmp_path / "tiny.onnx")
    network = load_network(tmp_path / "tiny.onnx")
    thresholds = dict.fromkeys(tensors_to_quantise(network, network.convs), 6.0)
    quantised = insert_qdq(network, network.convs, thresholds)
    assert unsafe_optimizers(quantised) == []
    half = to_fp16(quantised)
    assert unsafe_optimizers(half) == ["WeightBiasQuantization"]
    assert check_half(quantised, half, SPEC, frames(3)).agreement > 0.95
