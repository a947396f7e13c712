"""Our networks at another size are what they would have been if they were made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rtseg.engines import onnxfile
from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.deployable import read_deployable
from rtseg.engines.errors import EngineError
from rtseg.engines.quality import quality_points
from rtseg.engines.registry import open_engine
from rtseg.engines.reshape import resize_network
from rtseg.engines.shipped import ShippedModel, shipped_models
from tests.engines.networks import TinyNet


def shipped(precision: str) -> list[ShippedModel]:
    found = [one for one in shipped_models() if one.precision == precision]
    if not found:
        pytest.skip(f"no {precision} network ships")
    return found


def contents(model: Any) -> dict[str, Any]:
    """What a graph computes: its nodes, with their weights in place of the weights' names."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}

    def value(name: str) -> object:
        return numpy_helper.to_array(weights[name]).tobytes() if name in weights else name

    return {
        node.output[0]: (
            node.op_type,
            [value(name) for name in node.input],
            sorted(attribute.SerializeToString() for attribute in node.attribute),
        )
        for node in model.graph.node
    }


@pytest.mark.parametrize("name", ["espnet-lite", "espnet-base-s0", "fast-scnn", "deeplabv3plus"])
def test_a_network_of_ours_at_another_size(name: str) -> None:
    pytest.importorskip("keras", reason="needs the extra 'train'")
    from rtseg.models.export import to_onnx
    from rtseg.models.registry import build

    first, second = build(name, 256, 224), build(name, 96, 480)
    second.set_weights(first.get_weights())
    model, wanted = to_onnx(first), to_onnx(second)
    assert contents(model) != contents(wanted)
    assert resize_network(model, (96, 480))
    assert contents(model) == contents(wanted)
    assert len(model.graph.initializer) == len(wanted.graph.initializer)
    for ours, theirs in ((model.graph.input, wanted.graph.input), (model.graph.output,) * 2):
        assert onnxfile.ports_of(ours) == onnxfile.ports_of(theirs)
    onnx.checker.check_model(model, full_check=True)


def test_frames_that_a_file_brings_to_its_network(tmp_path: Path) -> None:
    """Both grow; the description had the network's old size."""
    pytest.importorskip("keras", reason="needs the extra 'train'")
    from rtseg.models.export import export_onnx
    from rtseg.models.registry import build

    path = export_onnx(build("espnet-lite", 256, 224), tmp_path / "net.onnx", frames=(512, 448))
    assert adapt_onnx(path).spec.extra == {"inner": "224x256"}
    spec = adapt_onnx(path, (896, 1024)).spec
    assert (spec.width, spec.height, spec.extra) == (896, 1024, {})
    with pytest.raises(EngineError, match="made for 448x512"):
        adapt_onnx(path, (224, 256))  # 7 rows somewhere, which have no half


def test_the_shipped_int8_networks_become_each_other() -> None:
    """But for the scales that each was calibrated with."""
    small, *_, large = shipped("int8")
    model = onnxfile.load_onnx(large.path)
    assert resize_network(model, (small.height, small.width))
    found, wanted = contents(model), contents(onnxfile.load_onnx(small.path))
    assert found.keys() == wanted.keys()
    for name, (kind, inputs, attributes) in found.items():
        assert (kind, attributes) == (wanted[name][0], wanted[name][2]), name
        if kind == "Resize":
            assert inputs == wanted[name][1]


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_an_engine_of_another_size(precision: str) -> None:
    """Of a size that does not ship; it sees what the shipped one sees."""
    model = shipped(precision)[0]
    size = (model.width + 64, model.height + 32)
    frame = np.zeros((1, size[1], size[0], 3), np.uint8)
    frame[:, size[1] // 2 :] = 90
    frame[:, : size[1] // 2] = (200, 220, 255)
    with open_engine(model="espnet-lite", precision=precision, size=size) as engine:
        assert (engine.spec.width, engine.spec.height) == size
        labels = engine.infer(frame)[0]
    assert labels.shape == (size[1], size[0])
    with open_engine(model.path, precision=precision) as engine:
        rows = np.linspace(0, size[1] - 1, model.height).astype(int)
        columns = np.linspace(0, size[0] - 1, model.width).astype(int)
        native = engine.infer(np.ascontiguousarray(frame[:, rows][:, :, columns]))[0]
    assert (labels[rows][:, columns] == native).mean() > 0.8


def test_batches_stay_free() -> None:
    deployable = read_deployable(shipped("int8")[0].path, (320, 192))
    assert deployable.free_batch
    assert (deployable.spec.width, deployable.spec.height) == (320, 192)


@pytest.mark.parametrize("size", [(100, 64), (64, 100), (0, 64), (-32, 64)])
def test_sides_are_multiples_of_32(size: tuple[int, int]) -> None:
    model = onnxfile.load_onnx(shipped("int8")[0].path)
    before = model.SerializeToString()
    assert not resize_network(model, size)
    assert model.SerializeToString() == before


def test_a_size_that_cannot_be_is_said() -> None:
    with pytest.raises(
        EngineError, match=r"sizes are multiples of 32\. Received: 64x100"
    ) as caught:
        adapt_onnx(shipped("int8")[0].path, (64, 100))
    assert caught.value.reason == "ENGINE_MISMATCH"


def test_a_network_of_another_kind_keeps_its_size(tmp_path: Path) -> None:
    path = TinyNet(height=32, width=64).save_ours(tmp_path / "ours.onnx")
    with pytest.raises(EngineError, match=r"made for 64x32 .*Received: 32x96") as caught:
        adapt_onnx(path, (32, 96))
    assert caught.value.reason == "ENGINE_MISMATCH"


@pytest.mark.parametrize("kind", ["AveragePool", "Softmax"])
def test_what_is_not_known_to_fit_is_left_alone(kind: str) -> None:
    """Such as a pooling that is no pyramid's: it may halve the map, or give two bins."""
    model = onnxfile.load_onnx(shipped("fp32")[0].path)
    node = next(node for node in model.graph.node if node.op_type == "AveragePool")
    if kind == "AveragePool":
        node.name = "pool"
    else:
        node.op_type = kind
    before = model.SerializeToString()
    assert not resize_network(model, (64, 64))
    assert model.SerializeToString() == before


def test_sizes_that_ship_are_taken_as_they_are() -> None:
    for point in quality_points("espnet-lite"):
        with open_engine(model="espnet-lite", size=(point.width, point.height)) as engine:
            assert (engine.spec.width, engine.spec.height) == (point.width, point.height)
