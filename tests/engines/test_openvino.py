"""What is OpenVINO's own: precisions, streams, the cache, the IR."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import helper

from rtseg.engines.errors import EngineError
from rtseg.engines.openvino import OpenVinoEngine
from rtseg.engines.openvino_network import read_network
from rtseg.engines.openvino_precision import HINTS
from rtseg.engines.processor import multiplies_bf16_matrices
from rtseg.engines.shipped import shipped_models
from tests.engines.networks import (
    TinyNet,
    assert_labels_of,
    normalise,
    random_frames,
    upsample,
)

ABLE = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def save_ir(net: TinyNet, folder: Path, ours: bool = False) -> Path:
    source = net.save_ours(folder / "net.onnx") if ours else net.save(folder / "net.onnx")
    network = openvino.Core().read_model(source)
    openvino.save_model(network, folder / "net.xml", compress_to_fp16=False)
    return folder / "net.xml"


def labels_of_numpy(net: TinyNet, frames: Any, **values: Any) -> Any:
    return upsample(net.logits(normalise(frames[0], **values)), net.height, net.width)


def test_automatic_precision_is_one_that_the_processor_has(tmp_path: Path) -> None:
    path = TinyNet(height=64, width=64, channels=32).save_ours(tmp_path / "net.onnx")
    with OpenVinoEngine(path, cache_dir=tmp_path) as engine:
        chosen = engine.profile().precision
    if "BF16" not in ABLE:
        assert chosen == "fp32"
    elif multiplies_bf16_matrices():
        assert chosen == "bf16"
    else:  # what a trial found, and the cache kept
        (kept,) = tmp_path.glob("*/precision-*")
        assert HINTS[chosen] == kept.read_text()
    with OpenVinoEngine(path, precision="fp32", cache_dir=tmp_path) as engine:
        assert engine.profile().precision == "fp32"


@pytest.mark.skipif("BF16" not in ABLE, reason="this processor has no BF16")
def test_bf16_labels_are_nearly_those_of_fp32(tmp_path: Path) -> None:
    net = TinyNet(height=64, width=64, channels=32)
    path = net.save_ours(tmp_path / "net.onnx")
    frames = random_frames(net)
    with OpenVinoEngine(path, precision="bf16", cache_dir=tmp_path) as engine:
        scores = labels_of_numpy(net, frames)
        assert_labels_of(engine.infer(frames)[0], scores, 0.05 * float(scores.std()))


def test_an_int8_file_is_int8_and_nothing_else(tmp_path: Path) -> None:
    path = TinyNet(quantised=True).save_ours(tmp_path / "net.onnx")
    for precision in (None, "int8"):
        with OpenVinoEngine(path, precision=precision, cache_dir=tmp_path) as engine:
            assert engine.profile().precision == "int8"
    with pytest.raises(EngineError, match=r"is INT8.*Received: fp32") as caught:
        OpenVinoEngine(path, precision="fp32")
    assert caught.value.reason == "ENGINE_MISMATCH"
    with pytest.raises(EngineError, match=r"is FP32.*Received: int8"):
        OpenVinoEngine(TinyNet().save_ours(tmp_path / "f.onnx"), precision="int8")


def test_little_of_a_shipped_int8_network_is_float() -> None:
    core = openvino.Core()
    models = shipped_models()
    assert {shipped.precision for shipped in models} == {"int8", "fp32"}
    for shipped in models:
        read = read_network(core, shipped.path)
        assert read.mostly_int8 is (shipped.precision == "int8"), shipped.path.name


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_a_precision_is_what_was_asked_for_or_an_error(tmp_path: Path, asked: str) -> None:
    path = TinyNet(height=64, width=64, channels=32).save_ours(tmp_path / "net.onnx")
    try:
        with OpenVinoEngine(path, precision=asked, cache_dir=tmp_path) as engine:
            used = engine.profile().precision
    except EngineError as error:
        used = error.reason
    assert used == (asked if asked.upper() in ABLE else "ENGINE_UNSUPPORTED")


def test_one_precision_never_loads_what_was_compiled_for_another(tmp_path: Path) -> None:
    """OpenVINO 2026.4 finds the FP32 network in its cache when asked for FP16."""
    path = TinyNet(height=64, width=64, channels=32).save_ours(tmp_path / "net.onnx")
    able = ["fp32", *(name for name in ("bf16", "fp16") if name.upper() in ABLE)]
    for _ in range(2):
        for precision in able:
            with OpenVinoEngine(path, precision=precision, cache_dir=tmp_path) as engine:
                assert engine.profile().precision == precision


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"precision": "int4"}, "unknown precision 'int4'. Allowed: fp32"),
        ({"threads": -1}, "threads and requests are 0"),
        ({"requests": -2}, "threads and requests are 0"),
        ({"mode": "fast"}, "unknown mode 'fast'. Allowed: latency, throughput"),
    ],
)
def test_wrong_options(tmp_path: Path, options: Any, complaint: str) -> None:
    with pytest.raises(EngineError, match=complaint) as caught:
        OpenVinoEngine(TinyNet().save_ours(tmp_path / "net.onnx"), **options)
    assert caught.value.reason == "BAD_OPTION"


def test_at_least_two_requests_in_both_modes(tmp_path: Path) -> None:
    path = TinyNet().save_ours(tmp_path / "net.onnx")
    for mode in ("latency", "throughput"):
        with OpenVinoEngine(path, mode=mode, cache_dir=tmp_path) as engine:  # type: ignore[arg-type]
            assert engine.requests >= 2
    with OpenVinoEngine(path, requests=1, cache_dir=tmp_path) as engine:
        assert engine.requests == 2


def test_compiled_networks_are_kept_and_found_again(tmp_path: Path) -> None:
    path = TinyNet().save_ours(tmp_path / "net.onnx")
    cache = tmp_path / "cache"
    for _ in range(2):
        with OpenVinoEngine(path, precision="fp32", cache_dir=cache) as engine:
            assert engine.infer(random_frames(TinyNet())).shape == (1, 32, 48)
    assert len(list(cache.rglob("*.blob"))) == 1


@pytest.mark.parametrize("damage", [b"", b"rubbish" * 100])
def test_a_damaged_cache_is_no_harm(tmp_path: Path, damage: bytes) -> None:
    net = TinyNet()
    path = net.save_ours(tmp_path / "net.onnx")
    cache = tmp_path / "cache"
    OpenVinoEngine(path, precision="fp32", cache_dir=cache).close()
    for blob in cache.rglob("*.blob"):
        blob.unlink()
        blob.write_bytes(damage)
    frames = random_frames(net)
    with OpenVinoEngine(path, precision="fp32", cache_dir=cache) as engine:
        assert_labels_of(engine.infer(frames)[0], labels_of_numpy(net, frames))


def test_no_place_for_a_cache_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = TinyNet().save_ours(tmp_path / "net.onnx")
    with OpenVinoEngine(path, cache_dir=tmp_path / "file") as engine:
        assert engine.infer(random_frames(TinyNet())).shape == (1, 32, 48)


def test_an_operator_of_somebodys_own_is_named_with_its_node(tmp_path: Path) -> None:
    model = TinyNet().proto()
    model.graph.node[1].op_type, model.graph.node[1].domain = "Swirl", "my.company"
    model.opset_import.append(helper.make_opsetid("my.company", 1))
    onnx.save(model, tmp_path / "swirl.onnx")
    with pytest.raises(EngineError, match=r"my\.company\.Swirl.*n_hidden_relu") as caught:
        OpenVinoEngine(tmp_path / "swirl.onnx")
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    assert "\n" not in str(caught.value)


# OpenVINO's own file format


@pytest.mark.parametrize("end", ["nchw", "nhwc"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_foreign_ir_gives_the_labels_of_numpy(
    tmp_path: Path, layout: str, end: str, dtype: str
) -> None:
    net = TinyNet(layout=layout, end=end, dtype=dtype)
    path = save_ir(net, tmp_path)
    frames = random_frames(net)
    with OpenVinoEngine(path, precision="fp32", cache_dir=tmp_path) as engine:
        labels = engine.infer(frames)[0]
        assert engine.spec.network == "net"
    if dtype == "uint8":
        scores = upsample(
            net.logits(frames[0].transpose(2, 0, 1).astype(np.float32)), net.height, net.width
        )
        assert_labels_of(labels, scores, 0.1)
    else:
        assert_labels_of(labels, labels_of_numpy(net, frames))


def test_a_foreign_ir_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = TinyNet(classes=20, dynamic=("n", "hw"))
    path = save_ir(net, tmp_path)
    values: dict[str, Any] = {"mean": [90, 80, 70], "std": [40, 50, 60], "scale": 1, "bgr": True}
    note = values | {"use_channels": 19, "classes": "cityscapes"}
    (tmp_path / "net.xml.json").write_text(json.dumps(note))
    frames = random_frames(net)
    with (
        caplog.at_level(logging.WARNING),
        OpenVinoEngine(path, precision="fp32", size=(48, 32), cache_dir=tmp_path) as engine,
    ):
        assert_labels_of(engine.infer(frames)[0], labels_of_numpy(net, frames, **values)[:19])
    assert not caplog.records


@pytest.mark.parametrize("end", ["nhw", "n1hw", "nhw1"])
def test_an_ir_that_ends_in_ids(tmp_path: Path, end: str) -> None:
    net = TinyNet(end=end, classes=5)
    (tmp_path / "net.xml.json").write_text('{"classes": ["a", "b", "c"]}')
    frames = random_frames(net)
    ids = net.logits(normalise(frames[0])).argmax(0)
    with OpenVinoEngine(save_ir(net, tmp_path), precision="fp32", cache_dir=tmp_path) as engine:
        labels = engine.infer(frames)[0]
    agree = labels[::2, ::2] == np.where(ids > 2, 255, ids)
    assert agree.mean() > 0.99  # a tie may go either way


@pytest.mark.parametrize(
    "enlarged", ["", "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
@pytest.mark.parametrize("end", ["nchw", "nhwc", "nhw", "n1hw", "nhw1"])
def test_an_ir_is_cut_where_its_scores_are_enlarged(
    tmp_path: Path, end: str, enlarged: str
) -> None:
    net = TinyNet(end=end, enlarged=enlarged, height=24, width=36, stride=3)
    path = save_ir(net, tmp_path)
    frames = random_frames(net)
    read = read_network(openvino.Core(), path)
    cut = enlarged != "asymmetric" and (not enlarged or end != "nhwc")
    assert (read.upsampler is not None) == cut
    assert read.adapted.guarded
    with OpenVinoEngine(path, precision="fp32", cache_dir=tmp_path) as engine:
        labels = engine.infer(frames)[0]
    if enlarged != "asymmetric":
        scores = net.logits(normalise(frames[0]))
        aligned = enlarged == "align_corners"
        assert_labels_of(labels, upsample(scores, net.height, net.width, aligned))
    else:  # as the network itself says
        session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
        (found,) = session.run(None, {"image": normalise(frames[0])[None]})
        if end in ("nchw", "nhwc"):
            found = found.argmax(1 if end == "nchw" else 3)
        assert (labels == found.reshape(labels.shape)).mean() > 0.99


def test_not_a_number_shows_in_an_ir_that_ends_in_ids(tmp_path: Path) -> None:
    path = save_ir(TinyNet(bias={3: np.nan}, end="nhw", enlarged="half_pixel"), tmp_path)
    with pytest.raises(EngineError, match="not finite"):
        OpenVinoEngine(path, precision="fp32", cache_dir=tmp_path)


def test_an_ir_says_how_to_feed_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = TinyNet(classes=4)
    network = openvino.Core().read_model(net.save(tmp_path / "net.onnx"))
    for key, value in {
        "labels": ["road", "sky", "parking_lot", "rest"],
        "mean_values": [90.0, 80.0, 70.0],
        "scale_values": [50.0],
        "reverse_input_channels": True,
        "resize_type": "standard",
    }.items():
        network.set_rt_info(value, ["model_info", key])
    openvino.save_model(network, tmp_path / "net.xml", compress_to_fp16=False)
    frames = random_frames(net)
    with (
        caplog.at_level(logging.WARNING),
        OpenVinoEngine(tmp_path / "net.xml", precision="fp32", cache_dir=tmp_path) as engine,
    ):
        scores = labels_of_numpy(net, frames, mean=(90, 80, 70), std=(50, 50, 50), scale=1)
        assert_labels_of(engine.infer(frames)[0], scores)
        assert engine.spec.classes.names == ("road", "sky", "parking_lot", "rest")
    assert not caplog.records


def test_an_ir_of_ours_keeps_its_description(tmp_path: Path) -> None:
    net = TinyNet()
    path = save_ir(net, tmp_path, ours=True)
    frames = random_frames(net)
    with OpenVinoEngine(path, precision="fp32", cache_dir=tmp_path) as engine:
        assert engine.spec.network == "tiny"
        assert engine.assumed == ()
        assert_labels_of(engine.infer(frames)[0], labels_of_numpy(net, frames))


def test_not_a_number_shows_in_an_ir_too(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not finite"):
        OpenVinoEngine(save_ir(TinyNet(bias={3: np.nan}), tmp_path), cache_dir=tmp_path)


@pytest.mark.parametrize("content", [b"<net", b"<html></html>", b"\x00\xff" * 50])
def test_a_damaged_ir(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.xml").write_bytes(content)
    with pytest.raises(EngineError) as caught:
        OpenVinoEngine(tmp_path / "net.xml")
    assert caught.value.reason == "ENGINE_DAMAGED"
    assert "\n" not in str(caught.value)


def test_an_ir_without_its_weights(tmp_path: Path) -> None:
    path = save_ir(TinyNet(), tmp_path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(EngineError) as caught:
        OpenVinoEngine(path)
    assert caught.value.reason == "ENGINE_DAMAGED"
    assert "\n" not in str(caught.value)
