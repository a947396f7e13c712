"""Any segmentation ONNX becomes frames in, class ids out; numpy says which ids."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from rtseg.engines.adapt import AdaptedModel, adapt_onnx
from rtseg.engines.errors import EngineError
from rtseg.engines.labels import CITYSCAPES, VOID_ID
from rtseg.engines.onnxfile import ports_of
from rtseg.engines.registry import open_engine
from rtseg.engines.spec import EngineSpec
from tests.data import shared_data
from tests.engines.networks import (
    U8,
    TinyNet,
    assert_labels_of,
    attach,
    normalise,
    random_frames,
    upsample,
)
from tests.engines.reference import ESPNETV2, MEHTA, NOTES, reference_network


def run_onnxruntime(adapted: AdaptedModel, frames: U8) -> tuple[U8, float]:
    session = onnxruntime.InferenceSession(adapted.serialise(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(None, {"frames": frames}), strict=True))
    return results["labels"], float(results.get("logit_mean", 0))


def run_openvino(adapted: AdaptedModel, frames: U8) -> U8:
    core = openvino.Core()
    network = core.read_model(adapted.serialise())
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled([frames])[compiled.output("labels")])


def could_be_grid(rows: int, columns: int, net: TinyNet) -> bool:
    """Tell whether rows x columns has the input's shape, give or take a row and a column."""
    shape = net.width / net.height
    fits = shape * (rows - 1) - 1 <= columns <= shape * (rows + 1) + 1
    return fits and rows <= net.height and columns <= net.width


nets = st.builds(
    TinyNet,
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    classes=st.integers(4, 24),
    stride=st.sampled_from([1, 2, 3]),
    channels=st.integers(1, 6),
    layout=st.sampled_from(["nchw", "nhwc"]),
    end=st.sampled_from(["nchw", "nhwc", "nhw", "n1hw", "nhw1"]),
    dtype=st.sampled_from(["float32", "uint8"]),
    id_dtype=st.sampled_from(["int64", "int32", "uint8"]),
    lookup=st.booleans(),
    seed=st.integers(0, 10**6),
    opset=st.sampled_from([11, 12, 13, 17, 19]),
    dynamic=st.sampled_from([(), ("n",), ("hw",), ("n", "hw")]),
    input_name=st.sampled_from(["image", "frames", "labels", "x"]),
    output_name=st.sampled_from(["out", "labels", "logit_mean", "scores_out"]),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(net=nets, bgr=st.booleans(), said=st.booleans())
def test_labels_are_those_of_numpy_on_both_runtimes(
    tmp_path: Path, net: TinyNet, bgr: bool, said: bool
) -> None:
    # A 3 among the axes, or about as many classes as rows, leaves the layout open.
    assume(3 not in (net.height, net.width))
    assume(net.input_name != net.output_name)
    grid = net.grid
    assume(all(abs(net.classes - side) > 2 for side in grid))
    # Seven classes of a 4x2 grid are also two classes of a 7x4 grid.
    assume(not could_be_grid(net.classes, grid[0], net))
    assume(not could_be_grid(grid[1], net.classes, net))
    note: dict[str, Any] = {"bgr": bgr, "width": net.width, "height": net.height}
    ends_in_ids = net.end not in ("nchw", "nhwc")
    if ends_in_ids:
        note["classes"] = [f"c{n}" for n in range(net.classes)]
    ids = ends_in_ids and net.lookup  # else the scores behind them are found
    values: dict[str, Any] = {}
    if said and net.dtype != "uint8":
        values = {"mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0], "scale": 1.0}
    (tmp_path / "net.onnx.json").write_text(json.dumps(note | values))
    adapted = adapt_onnx(net.save(tmp_path / "net.onnx"))
    onnx.checker.check_model(adapted.model, full_check=True)
    assert (adapted.spec.width, adapted.spec.height) == (net.width, net.height)
    assert len(adapted.spec.classes) == net.classes
    assert adapted.guarded == (not ids)

    frames = random_frames(net, seed=net.seed)
    if net.dtype == "uint8":
        picture = frames[0][..., ::-1] if bgr else frames[0]
        tensor = picture.transpose(2, 0, 1).astype(np.float32)
    else:
        tensor = normalise(frames[0], bgr=bgr, **values)
    scores = net.logits(tensor)
    tolerance = 1e-4 * float(np.abs(scores).max() + 1)
    found, mean = run_onnxruntime(adapted, frames)
    (same,) = run_openvino(adapted, frames)
    if ids:  # the network's own ids, enlarged to the nearest
        rows = np.arange(net.height) * grid[0] // net.height
        columns = np.arange(net.width) * grid[1] // net.width
        scores = scores[:, rows][:, :, columns]
    else:
        assert mean == pytest.approx(float(scores.mean()), abs=tolerance)
        scores = upsample(scores, net.height, net.width)
    assert found.shape == (1, net.height, net.width)
    assert_labels_of(found[0], scores, tolerance)
    assert_labels_of(same, scores, tolerance)


def test_upsampling_is_the_linear_one_of_opencv() -> None:
    """The tests' own reference is held against a library's."""
    scores = np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32)
    expected = cv2.resize(scores.transpose(1, 2, 0), (36, 28), interpolation=cv2.INTER_LINEAR)
    assert np.allclose(upsample(scores, 28, 36), expected.transpose(2, 0, 1), atol=1e-5)


def test_half_precision_networks_work(tmp_path: Path) -> None:
    net = TinyNet(dtype="float16")
    adapted = adapt_onnx(net.save(tmp_path / "half.onnx"))
    assert adapted.spec.precision == "fp16"
    frames = random_frames(net)
    scores = upsample(net.logits(normalise(frames[0])), net.height, net.width)
    labels, _ = run_onnxruntime(adapted, frames)
    assert_labels_of(labels[0], scores, 0.1)


def test_quantised_networks_work(tmp_path: Path) -> None:
    net = TinyNet(quantised=True)
    adapted = adapt_onnx(net.save(tmp_path / "int8.onnx"))
    assert adapted.spec.precision == "int8"
    frames = random_frames(net)
    rounded = np.clip(np.round(normalise(frames[0]) * 32), -128, 127).astype(np.float32) / 32
    scores = upsample(net.logits(rounded), net.height, net.width)
    labels, _ = run_onnxruntime(adapted, frames)
    assert_labels_of(labels[0], scores, 1e-2)
    assert_labels_of(run_openvino(adapted, frames)[0], scores, 0.3)


def test_a_foreign_file_is_taken_with_one_warning_that_says_how_to_correct_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        adapted = adapt_onnx(TinyNet(classes=7).save(tmp_path / "net.onnx"))
    assert len(caplog.records) == 1
    text = caplog.records[0].getMessage()
    assert "net.onnx.json" in text
    assert "ImageNet" in text
    assert "7 without names" in text
    assert len(adapted.assumed) == 3
    assert adapted.spec.classes.names[6] == "class_6"
    assert adapted.spec.mean == (0.485, 0.456, 0.406)
    assert len(adapted.spec.source_sha256) == 64


def test_a_note_that_says_all_leaves_nothing_to_warn_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    note = {"mean": [0, 0, 0], "bgr": False, "classes": "cityscapes"}
    (tmp_path / "net.onnx.json").write_text(json.dumps(note))
    with caplog.at_level(logging.WARNING):
        adapted = adapt_onnx(TinyNet().save(tmp_path / "net.onnx"))
    assert not caplog.records
    assert adapted.assumed == ()
    assert adapted.spec.mean == (0, 0, 0)
    assert adapted.spec.std == (0.229, 0.224, 0.225)  # not said, so the default


def test_use_channels_leaves_the_rest_out(tmp_path: Path) -> None:
    net = TinyNet(classes=20, bias={19: 1e6})  # the last channel would win everywhere
    (tmp_path / "net.onnx.json").write_text('{"use_channels": 19, "bgr": false}')
    adapted = adapt_onnx(net.save(tmp_path / "net.onnx"))
    assert adapted.spec.classes is CITYSCAPES
    frames = random_frames(net)
    labels, _ = run_onnxruntime(adapted, frames)
    scores = upsample(net.logits(normalise(frames[0])), net.height, net.width)
    assert_labels_of(labels[0], scores[:19])


@pytest.mark.parametrize(
    ("note", "complaint"),
    [
        ({"use_channels": 21}, "use_channels is at most 20"),
        ({"classes": "cityscapes"}, "19 classes for 20 channels.*use_channels"),
        ({"output": "nothing"}, "no output 'nothing'"),
        ({"input": "nothing"}, "no input 'nothing'"),
        ({"width": 64, "height": 64}, "fixed at 48x32"),
    ],
)
def test_a_note_that_does_not_fit_the_network(
    tmp_path: Path, note: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "net.onnx.json").write_text(json.dumps(note))
    with pytest.raises(EngineError, match=complaint):
        adapt_onnx(TinyNet(classes=20).save(tmp_path / "net.onnx"))


def test_normalisation_of_a_uint8_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx.json").write_text('{"mean": [1, 2, 3]}')
    with pytest.raises(EngineError, match="takes uint8") as caught:
        adapt_onnx(TinyNet(dtype="uint8").save(tmp_path / "net.onnx"))
    assert caught.value.reason == "BAD_INPUT"


@pytest.mark.parametrize("lookup", [False, True])
def test_ids_that_no_class_has_become_void(tmp_path: Path, lookup: bool) -> None:
    net = TinyNet(classes=12, end="nhw", lookup=lookup)
    (tmp_path / "net.onnx.json").write_text('{"classes": ["a", "b", "c"]}')
    adapted = adapt_onnx(net.save(tmp_path / "net.onnx"))
    frames = random_frames(net)
    ids = net.logits(normalise(frames[0])).argmax(0)
    assert (ids > 2).any()
    assert (ids <= 2).any()
    labels, _ = run_onnxruntime(adapted, frames)
    assert np.array_equal(labels[0][::2, ::2], np.where(ids > 2, VOID_ID, ids))


def test_the_finest_of_several_outputs_is_taken(tmp_path: Path) -> None:
    net = TinyNet(auxiliary=True)
    adapted = adapt_onnx(net.save(tmp_path / "net.onnx"))
    frames = random_frames(net)
    labels, _ = run_onnxruntime(adapted, frames)
    scores = upsample(net.logits(normalise(frames[0])), net.height, net.width)
    assert_labels_of(labels[0], scores)
    assert [output.name for output in adapted.model.graph.output] == ["labels", "logit_mean"]


def test_a_size_may_be_asked_for_where_the_network_takes_any(tmp_path: Path) -> None:
    path = TinyNet(dynamic=("n", "hw")).save(tmp_path / "net.onnx")
    assert (adapt_onnx(path).spec.width, adapt_onnx(path).spec.height) == (512, 512)
    adapted = adapt_onnx(path, (40, 24))
    assert (adapted.spec.width, adapted.spec.height) == (40, 24)
    assert run_onnxruntime(adapted, np.zeros((1, 24, 40, 3), np.uint8))[0].shape == (1, 24, 40)


def test_an_old_opset_is_converted(tmp_path: Path) -> None:
    net = TinyNet(opset=9)
    adapted = adapt_onnx(net.save(tmp_path / "old.onnx"))
    frames = random_frames(net)
    scores = upsample(net.logits(normalise(frames[0])), net.height, net.width)
    assert_labels_of(run_onnxruntime(adapted, frames)[0][0], scores)


def save_graph(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize("name", [b"hidden_relu", b"n_hidden", b"first", b"ai.onnx", b"Relu"])
def test_a_name_that_is_no_text_is_damage(tmp_path: Path, name: bytes) -> None:
    model = TinyNet(output_name="labels").proto()
    model.graph.node[0].domain = "ai.onnx"
    data = model.SerializeToString()
    assert name in data
    (tmp_path / "net.onnx").write_bytes(data.replace(name, b"\xff" + name[1:]))
    with pytest.raises(EngineError, match="damaged: a name is b'") as caught:
        adapt_onnx(tmp_path / "net.onnx")
    assert caught.value.reason == "ENGINE_DAMAGED"


def test_a_type_that_onnx_does_not_know_is_none(tmp_path: Path) -> None:
    model = TinyNet().proto()
    model.graph.output[0].type.tensor_type.elem_type = 126
    assert ports_of(model.graph.output)[0].dtype == "unknown"


def test_networks_of_another_kind_are_refused(tmp_path: Path) -> None:
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])
    pooled = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 1, 1])
    node = helper.make_node("GlobalAveragePool", ["x"], ["y"])
    path = save_graph(tmp_path / "classifier.onnx", [node], [picture], [pooled])
    with pytest.raises(EngineError, match=r"no output is a segmentation.*y float32 1x3x1x1"):
        adapt_onnx(path)
    tokens = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 128])
    node = helper.make_node("Identity", ["ids"], ["y"])
    result = helper.make_tensor_value_info("y", TensorProto.INT64, [1, 128])
    path = save_graph(tmp_path / "text.onnx", [node], [tokens], [result])
    with pytest.raises(EngineError, match=r"no picture input.*ids int64 1x128"):
        adapt_onnx(path)


def test_shapes_that_onnx_cannot_infer_come_from_openvino(tmp_path: Path) -> None:
    """The grid is computed from the input's own shape, by way of a value only known later."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Identity", ["shape"], ["grid"]),
        helper.make_node("Concat", ["x", "x"], ["y0"], axis=1),
        helper.make_node("ConstantOfShape", ["grid"], ["zeros"]),
        helper.make_node("Add", ["x", "zeros"], ["same"]),
        helper.make_node("Concat", ["y0", "same"], ["y"], axis=1),
    ]
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "a", "b"])
    path = save_graph(tmp_path / "shape.onnx", nodes, [picture], [result])
    adapted = adapt_onnx(path, (32, 16))
    assert len(adapted.spec.classes) == 9


# Our own files


def test_our_files_keep_their_description(tmp_path: Path) -> None:
    path = TinyNet().save_ours(tmp_path / "ours.onnx", licence="research", source_sha256="ab")
    adapted = adapt_onnx(path)
    assert adapted.spec.network == "tiny"
    assert adapted.spec.licence == "research"
    assert adapted.spec.source_sha256 == "ab"
    assert adapted.guarded
    assert adapted.assumed == ()


def test_our_files_refuse_another_size(tmp_path: Path) -> None:
    path = TinyNet().save_ours(tmp_path / "ours.onnx")
    with pytest.raises(EngineError, match=r"made for 48x32.*Received: 64x60") as caught:
        adapt_onnx(path, (64, 60))
    assert caught.value.reason == "ENGINE_MISMATCH"


def test_our_files_without_head_and_tail_get_them_from_the_description(tmp_path: Path) -> None:
    net = TinyNet(classes=20)
    model = net.proto()
    spec = EngineSpec(
        network="bare",
        height=net.height,
        width=net.width,
        input_kind="float_nchw",
        output_kind="logits",
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
        bgr=True,
    )
    attach(model, spec)
    onnx.save(model, tmp_path / "bare.onnx")
    adapted = adapt_onnx(tmp_path / "bare.onnx")
    assert (adapted.spec.input_kind, adapted.spec.output_kind) == ("uint8_nhwc_rgb", "labels")
    frames = random_frames(net)
    tensor = normalise(frames[0], spec.mean, spec.std, bgr=True)
    labels, _ = run_onnxruntime(adapted, frames)
    assert_labels_of(labels[0], upsample(net.logits(tensor), net.height, net.width)[:19])


def test_a_description_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    net = TinyNet()
    model = net.proto()
    attach(model, EngineSpec(network="wrong", height=net.height, width=net.width))
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(EngineError, match="does not fit its own description") as caught:
        adapt_onnx(tmp_path / "wrong.onnx")
    assert caught.value.reason == "ENGINE_DAMAGED"


def test_a_description_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = TinyNet().save_ours(tmp_path / "ours.onnx")
    model = onnx.load(path)
    fields = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps(fields | {"format_version": 99})
    onnx.save(model, path)
    with pytest.raises(EngineError, match="format 99") as caught:
        adapt_onnx(path)
    assert caught.value.reason == "ENGINE_MISMATCH"


# The reference networks on real pictures


def frankfurt(count: int) -> Iterator[tuple[U8, U8]]:
    """Yield pictures (RGB) and their trainId labels."""
    root = shared_data("cityscapes-512x256")
    pictures = sorted((root / "leftImg8bit" / "val" / "frankfurt").glob("*_leftImg8bit.*"))
    for path in pictures[:: len(pictures) // count][:count]:
        name = path.name.split("_leftImg8bit")[0] + "_gtFine_labelTrainIds.png"
        truth = cv2.imread(str(root / "gtFine" / "val" / "frankfurt" / name), cv2.IMREAD_GRAYSCALE)
        yield cv2.imread(str(path))[..., ::-1], truth


@pytest.mark.parametrize(
    ("name", "backend"), [(MEHTA, "openvino"), (MEHTA, "onnxruntime"), (ESPNETV2, "openvino")]
)
def test_reference_networks_see_frankfurt(name: str, backend: str, tmp_path: Path) -> None:
    right = counted = 0
    session = onnxruntime.InferenceSession(shared_data("weights", name))
    with open_engine(
        reference_network(name, tmp_path), backend=backend, precision="fp32", cache_dir=tmp_path
    ) as engine:
        for index, (picture, truth) in enumerate(frankfurt(2)):
            frame = cv2.resize(picture, (engine.spec.width, engine.spec.height))
            labels = engine.infer(frame[None])[0]
            large = cv2.resize(labels, truth.shape[::-1], interpolation=cv2.INTER_NEAREST)
            right += int((large == truth)[truth != VOID_ID].sum())
            counted += int((truth != VOID_ID).sum())
            if index == 0:
                # The preprocessing as the reference's authors write it, and plain argmax.
                tensor = _as_published(name, frame)
                scores = session.run(None, {"image": tensor})[0][0, :19]
                assert (labels == scores.argmax(0)).mean() > 0.9999
    assert right / counted > 0.85


def _as_published(name: str, frame: U8) -> Any:
    if name == MEHTA:
        bgr = frame[..., ::-1].astype(np.float32)
        bgr = (bgr - [72.3923, 82.9089, 73.1584]) / [45.3192, 46.1529, 44.9148] / 255
        return bgr.transpose(2, 0, 1)[None].astype(np.float32)
    note = NOTES[name]
    rgb = (frame.astype(np.float32) / 255 - note["mean"]) / note["std"]
    return rgb.transpose(2, 0, 1)[None].astype(np.float32)
