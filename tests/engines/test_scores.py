"""A network that ends in an argmax or an enlargement of its own is used from its scores on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.cut import cut_upsampling
from rtseg.engines.errors import EngineError
from rtseg.engines.openvino import OpenVinoEngine
from rtseg.engines.upsample import LabelUpsampler
from tests.engines.networks import TinyNet, assert_labels_of, normalise, random_frames, upsample


def nodes_of(model: Any, op_type: str) -> list[Any]:
    return [node for node in model.graph.node if node.op_type == op_type]


def run(model: Any, frames: Any, *names: str) -> list[Any]:
    found: list[Any] = onnxruntime.InferenceSession(model.SerializeToString()).run(
        list(names), {"frames": frames}
    )
    return found


@pytest.mark.parametrize("end", ["nchw", "nhw", "n1hw", "nhw1"])
@pytest.mark.parametrize("enlarged", ["", "half_pixel", "pytorch_half_pixel", "align_corners"])
def test_cut_and_enlarged_it_gives_the_labels_of_numpy(
    tmp_path: Path, end: str, enlarged: str
) -> None:
    net = TinyNet(end=end, enlarged=enlarged, height=24, width=36, stride=3)
    adapted = adapt_onnx(net.save(tmp_path / "net.onnx"))
    assert adapted.guarded
    assert len(adapted.spec.classes) == net.classes
    aligned = enlarged == "align_corners"
    grid = cut_upsampling(adapted.model)
    assert grid == (8, 12, 24, 36, aligned)
    onnx.checker.check_model(adapted.model, full_check=True)
    frames = random_frames(net)
    scores, mean = run(adapted.model, frames, "scores", "logit_mean")
    logits = net.logits(normalise(frames[0]))
    assert np.allclose(scores[0], logits, atol=1e-4)
    assert mean == pytest.approx(float(logits.mean()), abs=1e-4)
    labels = np.empty((24, 36), np.uint8)
    LabelUpsampler(*grid).labels(scores[0], labels)
    assert_labels_of(labels, upsample(logits, 24, 36, aligned), 1e-3)


@pytest.mark.parametrize("end", ["nchw", "nhw"])
def test_another_enlargement_stays_with_the_network(tmp_path: Path, end: str) -> None:
    net = TinyNet(end=end, enlarged="asymmetric")
    path = net.save(tmp_path / "net.onnx")
    adapted = adapt_onnx(path)
    assert cut_upsampling(adapted.model) is None
    frames = random_frames(net)
    labels, mean = run(adapted.model, frames, "labels", "logit_mean")
    (own,) = onnxruntime.InferenceSession(path).run(None, {"image": normalise(frames[0])[None]})
    assert np.array_equal(labels, own.argmax(1) if end == "nchw" else own)
    # of the small scores: next to no work
    assert mean == pytest.approx(float(net.logits(normalise(frames[0])).mean()), abs=1e-4)


@pytest.mark.parametrize("factors", [(1, 1, 2.02, 2.02), (1, 1, 2, 2.03)])
def test_a_factor_that_leaves_a_part_out_stays_with_the_network(
    tmp_path: Path, factors: tuple[float, ...]
) -> None:
    net = TinyNet(end="nhw", enlarged="half_pixel")
    model = net.proto()
    (constant,) = nodes_of(model, "Constant")
    constant.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(factors, np.float32)))
    onnx.save(model, str(tmp_path / "net.onnx"))
    adapted = adapt_onnx(tmp_path / "net.onnx")
    assert adapted.guarded
    assert cut_upsampling(adapted.model) is None


def test_shapes_that_onnx_cannot_infer_do_not_hide_the_scores(tmp_path: Path) -> None:
    net = TinyNet(end="nhw", enlarged="half_pixel", opset=11, classes=21, height=24, width=36)
    model = net.proto()
    (resize,) = nodes_of(model, "Resize")
    # as PyTorch's older exporter writes it: empty constants before sizes that nodes compute
    for name, value in {
        "none": np.zeros(0, np.float32),
        "head": np.array([1, 21], np.int64),
        "rest": np.array([12, 18], np.int64),
        "twice": np.array([2, 2], np.int64),
    }.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    place = list(model.graph.node).index(resize)
    for node in (
        helper.make_node("Concat", ["head", "larger"], ["sizes"], axis=0),
        helper.make_node("Mul", ["rest", "twice"], ["larger"]),
    ):
        model.graph.node.insert(place, node)
    del resize.input[1:]
    resize.input.extend(["none", "none", "sizes"])
    onnx.save(model, str(tmp_path / "net.onnx"))
    adapted = adapt_onnx(tmp_path / "net.onnx")
    assert adapted.guarded
    assert len(adapted.spec.classes) == 21
    assert cut_upsampling(adapted.model) == (12, 18, 24, 36, False)


def test_a_topk_of_one_is_an_argmax(tmp_path: Path) -> None:
    net = TinyNet(end="n1hw", classes=21, enlarged="half_pixel")
    model = net.proto()
    (argmax,) = nodes_of(model, "ArgMax")
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    model.graph.initializer.append(one)
    topk = helper.make_node("TopK", [argmax.input[0], "one"], ["best", argmax.output[0]], axis=1)
    argmax.CopyFrom(topk)
    onnx.save(model, str(tmp_path / "net.onnx"))
    adapted = adapt_onnx(tmp_path / "net.onnx")
    assert adapted.guarded
    assert len(adapted.spec.classes) == 21
    frames = random_frames(net)
    (labels,) = run(adapted.model, frames, "labels")
    scores = upsample(net.logits(normalise(frames[0])), net.height, net.width)
    assert_labels_of(labels[0], scores, 1e-3)


def test_the_least_is_no_argmax(tmp_path: Path) -> None:
    net = TinyNet(end="n1hw", height=32, width=32, stride=1)
    model = net.proto()
    (argmax,) = nodes_of(model, "ArgMax")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    topk = helper.make_node(
        "TopK", [argmax.input[0], "one"], ["best", argmax.output[0]], axis=1, largest=0
    )
    argmax.CopyFrom(topk)
    onnx.save(model, str(tmp_path / "net.onnx"))
    adapted = adapt_onnx(tmp_path / "net.onnx")
    assert not adapted.guarded
    (labels,) = run(adapted.model, random_frames(net), "labels")
    assert (labels[0] == net.logits(normalise(random_frames(net)[0])).argmin(0)).mean() > 0.999


def test_a_mask_of_yes_and_no_has_two_classes(tmp_path: Path) -> None:
    net = TinyNet(end="nhw", classes=2, id_dtype="bool", lookup=True)
    adapted = adapt_onnx(net.save(tmp_path / "net.onnx"))
    assert len(adapted.spec.classes) == 2
    frames = random_frames(net)
    (labels,) = run(adapted.model, frames, "labels")
    assert set(np.unique(labels)) == {0, 1}


@pytest.mark.parametrize("change", ["last", "rows", "added"])
def test_ids_of_another_kind_stay_as_they_are(tmp_path: Path, change: str) -> None:
    net = TinyNet(end="nhw", height=32, width=32, stride=1)
    model = net.proto()
    (argmax,) = nodes_of(model, "ArgMax")
    if change == "last":
        argmax.attribute.append(helper.make_attribute("select_last_index", 1))
    elif change == "rows":  # the place of the maximum along a row: no class
        axis = next(a for a in argmax.attribute if a.name == "axis")
        axis.i = 2
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = net.classes
    else:
        (cast,) = nodes_of(model, "Cast")
        model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "one"))
        add = helper.make_node("Add", [argmax.output[0], "one"], ["more"], name="add")
        cast.input[0] = "more"
        model.graph.node.insert(list(model.graph.node).index(cast), add)
    onnx.save(model, str(tmp_path / "net.onnx"))
    if change == "rows":
        with pytest.raises(EngineError, match="no output is a segmentation"):
            adapt_onnx(tmp_path / "net.onnx")
        return
    adapted = adapt_onnx(tmp_path / "net.onnx")
    assert not adapted.guarded
    frames = random_frames(net)
    (labels,) = run(adapted.model, frames, "labels")
    ids = net.logits(normalise(frames[0])).argmax(0) + (change == "added")
    expected = np.where(ids > 18, 255, ids)
    assert (labels[0] == expected).mean() > 0.999


def test_an_engine_sees_numbers_that_are_none_behind_an_argmax(tmp_path: Path) -> None:
    path = TinyNet(bias={3: np.nan}, end="nhw", enlarged="half_pixel").save(tmp_path / "net.onnx")
    with pytest.raises(EngineError, match="not finite"):
        OpenVinoEngine(path, precision="fp32", cache_dir=tmp_path)


def test_scores_that_are_outputs_too_do_no_harm(tmp_path: Path) -> None:
    net = TinyNet(end="nhw", height=24, width=24)
    model = net.proto()
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 19, 12, 12])
    model.graph.output.append(scores)
    onnx.save(model, str(tmp_path / "net.onnx"))
    frames = random_frames(net)
    with OpenVinoEngine(tmp_path / "net.onnx", precision="fp32", cache_dir=tmp_path) as engine:
        labels = engine.infer(frames)[0]
    assert_labels_of(labels, upsample(net.logits(normalise(frames[0])), 24, 24), 1e-3)
