"""Bias correction: a convolution's mean output after rounding is what it was before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from rtseg.calibration.bias import bias_correction
from rtseg.calibration.calibration_set import select_images
from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.network import FloatNetwork, load_network
from rtseg.calibration.observe import GraphRunner, channel_means
from rtseg.calibration.qdq import insert_qdq, quantise_weight, tensors_to_quantise
from tests.calibration.nets import SIZE, save_images, save_network


@settings(deadline=None, max_examples=50)
@given(
    groups=st.sampled_from([1, 2, 6]),
    kernel=st.sampled_from([(1, 1), (3, 3), (1, 5)]),
    seed=st.integers(0, 10**6),
)
def test_the_mean_output_stays(groups: int, kernel: tuple[int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs, outputs, pixels = 6, 12, 500
    weight = random.normal(0, 1, (outputs, inputs // groups, *kernel)).astype(np.float32)
    codes, scales = quantise_weight(weight)
    rounded = codes * scales.reshape(-1, 1, 1, 1)
    # Windows of an input as a convolution sees them; every tap of a channel has one mean.
    seen = random.uniform(0, 2, (inputs, 1)) + random.normal(0, 1, (inputs, pixels))
    mean = seen.mean(1)

    def mean_output(weights: np.ndarray) -> np.ndarray:
        per_group = outputs // groups
        out = np.empty(outputs)
        for o in range(outputs):
            first = o // per_group * (inputs // groups)
            own = seen[first : first + inputs // groups]
            out[o] = sum((weights[o, i].sum() * own[i]).mean() for i in range(inputs // groups))
        return out

    corrected = mean_output(rounded) + bias_correction(weight, rounded, mean, groups)
    assert np.allclose(corrected, mean_output(weight), atol=1e-4)


def test_means_of_a_network_are_those_of_its_tensors(tmp_path: Path) -> None:
    network = load_network(save_network(tmp_path / "tiny.onnx"))
    frames = list(select_images(save_images(tmp_path / "images")).frames(SIZE, SIZE))
    nodes = {node.name: node for node in network.model.graph.node}
    tensor = nodes["project"].input[0]
    runner = GraphRunner(network.model, network.spec, [tensor])
    expected = np.mean([runner(frame)[0].mean((0, 2, 3)) for frame in frames], axis=0)
    found = channel_means(network, lambda: frames, [tensor], total=len(frames))
    assert np.allclose(found[tensor], expected, rtol=1e-4)
    with pytest.raises(CalibrationError, match="at least one image"):
        channel_means(network, lambda: [], [tensor], total=0)


def test_biases_are_corrected_in_the_graph(tmp_path: Path) -> None:
    network = load_network(save_network(tmp_path / "tiny.onnx"))
    frames = list(select_images(save_images(tmp_path / "images")).frames(SIZE, SIZE))
    before = after = 0.0
    for conv in (node for node in network.model.graph.node if node.name in network.convs):
        thresholds = dict.fromkeys(tensors_to_quantise(network, {conv.name}), 4.0)
        means = channel_means(network, lambda: frames, [conv.input[0]], total=len(frames))
        plain = insert_qdq(network, {conv.name}, thresholds)
        corrected = insert_qdq(network, {conv.name}, thresholds, means)
        onnx.checker.check_model(corrected, full_check=True)
        wanted, *found = (
            mean_output_of(model, network, conv.output[0], frames)
            for model in (network.model, plain, corrected)
        )
        before += float(np.abs(found[0] - wanted).mean())
        after += float(np.abs(found[1] - wanted).mean())
    assert after < 0.6 * before


def mean_output_of(
    model: onnx.ModelProto, network: FloatNetwork, tensor: str, frames: list[np.ndarray]
) -> np.ndarray:
    runner = GraphRunner(model, network.spec, [tensor])
    means: np.ndarray = np.mean([runner(frame)[0].mean((0, 2, 3)) for frame in frames], axis=0)
    return means


def test_a_convolution_without_a_bias_gets_one(tmp_path: Path) -> None:
    network = load_network(save_network(tmp_path / "tiny.onnx"))
    (conv,) = (node for node in network.model.graph.node if node.name == "neck")
    del conv.input[2:]
    thresholds = dict.fromkeys(tensors_to_quantise(network, {"neck"}), 8.0)
    weight = next(t for t in network.model.graph.initializer if t.name == conv.input[1])
    mean = np.ones(weight.dims[1])
    model = insert_qdq(network, {"neck"}, thresholds, {conv.input[0]: mean})
    (new,) = (node for node in model.graph.node if node.name == "neck")
    bias = next(t for t in model.graph.initializer if t.name == new.input[2])
    codes, scales = quantise_weight(numpy_helper.to_array(weight))
    rounded = codes * scales.reshape(-1, 1, 1, 1)
    expected = bias_correction(numpy_helper.to_array(weight), rounded, mean)
    assert np.array_equal(numpy_helper.to_array(bias), expected)
