"""From an FP32 file and a folder of images to an INT8 file, and how it can fail."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rtseg.calibration.cache import CalibrationCache
from rtseg.calibration.calibration_set import CalibrationSet, select_images
from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.methods import METHODS
from rtseg.calibration.network import load_network
from rtseg.calibration.observe import GraphRunner, observe
from rtseg.calibration.qdq import tensors_to_quantise
from rtseg.calibration.quantise import QuantisationReport, quantise_onnx
from rtseg.engines.convert_fp16 import convert_fp16
from rtseg.engines.deployable import set_description
from rtseg.engines.spec import METADATA_KEY, EngineSpec
from tests.calibration.nets import SIZE, SPEC, save_images, save_network, tiny_network
from tests.data import needs_shared_data, shared_data


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return save_network(tmp_path / "tiny.onnx")


@pytest.fixture
def images(tmp_path: Path) -> CalibrationSet:
    return select_images(save_images(tmp_path / "images"))


def spec_of(path: Path) -> EngineSpec:
    return EngineSpec.from_json(
        next(e.value for e in onnx.load(path).metadata_props if e.key == METADATA_KEY)
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_network_close_to_fp32(
    network: Path, images: CalibrationSet, tmp_path: Path, method: str
) -> None:
    report = quantise_onnx(network, images, tmp_path / "int8.onnx", method=method)
    assert len(report.quantised) == 9
    assert report.check.disagreement < 0.06
    assert report.check.noise < 0.01
    assert set(report.thresholds) == set(report.saturated)
    if method == "minmax":
        assert not any(report.saturated.values())


def test_the_file_describes_itself(network: Path, images: CalibrationSet, tmp_path: Path) -> None:
    report = quantise_onnx(network, images, tmp_path / "int8.onnx", method="mse")
    spec = spec_of(tmp_path / "int8.onnx")
    assert spec == report.spec
    assert spec.precision == "int8"
    assert (spec.network, spec.height, spec.width) == (SPEC.network, SIZE, SIZE)
    assert spec.classes == SPEC.classes
    assert len(spec.source_sha256) == 64
    assert len(spec.calibration_sha256) == 64
    assert spec.extra["note"] == "kept"
    assert spec.extra["calib_method"] == "mse"
    assert spec.extra["calib_images"] == "6"
    assert spec.extra["float_layers"] == "pooled (1x1 map), logits (logits)"


def test_calibration_hash_follows_network_images_method_and_seed(
    network: Path, images: CalibrationSet, tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    other = save_network(tmp_path / "other.onnx", seed=1)
    hashes = [
        quantise_onnx(network, images, out).spec.calibration_sha256,
        quantise_onnx(other, images, out).spec.calibration_sha256,
        quantise_onnx(network, images.subset(3), out).spec.calibration_sha256,
        quantise_onnx(
            network, images, out, method="percentile", percentile=99.9
        ).spec.calibration_sha256,
        quantise_onnx(network, images, out, method="percentile").spec.calibration_sha256,
        quantise_onnx(network, replace(images, seed=1), out).spec.calibration_sha256,
    ]
    assert len(set(hashes)) == len(hashes)
    assert quantise_onnx(network, images, out).spec.calibration_sha256 == hashes[0]


def test_same_inputs_same_bytes_in_another_process(
    network: Path, images: CalibrationSet, tmp_path: Path
) -> None:
    quantise_onnx(network, images, tmp_path / "a.onnx", keep_fp32=2)
    program = (
        "import sys; from pathlib import Path\n"
        "from rtseg.calibration.calibration_set import select_images\n"
        "from rtseg.calibration.quantise import QuantisationReport, quantise_onnx\n"
        "quantise_onnx(Path(sys.argv[1]), select_images(sys.argv[2]), Path(sys.argv[3]),"
        " keep_fp32=2)"
    )
    arguments = [str(network), str(tmp_path / "images"), str(tmp_path / "b.onnx")]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_cache_is_written_used_and_replaced(
    network: Path, images: CalibrationSet, tmp_path: Path
) -> None:
    cache, out = tmp_path / "calibration.json", tmp_path / "int8.onnx"
    first = quantise_onnx(network, images, out, cache=cache)
    content = out.read_bytes()
    assert first.cache == "written"
    again = quantise_onnx(network, images, out, cache=cache)
    assert again.cache == "used"
    assert out.read_bytes() == content
    # Another method is in there already: no second look at the images.
    assert quantise_onnx(network, images, out, cache=cache, method="minmax").cache == "used"

    other = quantise_onnx(save_network(tmp_path / "b.onnx", 1), images, out, cache=cache)
    assert other.cache.startswith("the calibration cache was made for another network")
    assert CalibrationCache.load(cache).network_sha256 == other.spec.extra["fp32_sha256"]
    cache.write_text("{")
    damaged = quantise_onnx(network, images, out, cache=cache)
    assert "is damaged" in damaged.cache
    assert quantise_onnx(network, images, out, cache=cache).cache == "used"


def test_names_and_patterns_stay_float(
    network: Path, images: CalibrationSet, tmp_path: Path
) -> None:
    for keep in (["dw*", "stem"], "dw*, stem"):
        report = quantise_onnx(network, images, tmp_path / "int8.onnx", keep_fp32=keep)
        asked = {left.name for left in report.left_out if left.reason == "asked for"}
        assert asked == {"dw", "dw2", "stem"}
        assert not asked & set(report.quantised)


def test_the_most_sensitive_stay_float(
    network: Path, images: CalibrationSet, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    report = quantise_onnx(
        network,
        images,
        tmp_path / "int8.onnx",
        keep_fp32=3,
        progress=lambda *state: seen.append(state),
    )
    noises = [found.noise for found in report.sensitivity]
    assert noises == sorted(noises, reverse=True)
    assert len(noises) == 9
    kept = {left.name for left in report.left_out if left.reason == "sensitive"}
    assert kept == {found.name for found in report.sensitivity[:3]}
    plain = quantise_onnx(network, images, tmp_path / "plain.onnx")
    assert report.check.noise < plain.check.noise
    assert ("observe", 6, 6) in seen
    assert ("scan", 9, 9) in seen


def test_auto_keeps_no_more_than_it_must(
    network: Path, images: CalibrationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtseg.calibration import quantise

    def auto(noise: float) -> QuantisationReport:
        monkeypatch.setattr(quantise, "AUTO_NOISE", noise)
        return quantise_onnx(network, images, tmp_path / "int8.onnx", keep_fp32="auto")

    def kept(report: QuantisationReport) -> set[str]:
        return {left.name for left in report.left_out if left.reason == "sensitive"}

    all_good = auto(1.0)
    assert kept(all_good) == set()
    worst = all_good.sensitivity[0]
    total = sum(found.noise for found in all_good.sensitivity)
    assert kept(auto(total - worst.noise / 2)) == {worst.name}
    assert len(kept(auto(0.0))) == 1  # a fifth of nine at most


def test_openvino_and_onnxruntime_agree_on_the_int8_file(
    network: Path, images: CalibrationSet, tmp_path: Path
) -> None:
    import onnxruntime

    out = tmp_path / "int8.onnx"
    quantise_onnx(network, images, out)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    runner = GraphRunner(onnx.load(out), SPEC)
    same = [
        (session.run(None, {"frames": frame[None]})[0] == runner(frame)[0]).mean()
        for frame in images.frames(SIZE, SIZE)
    ]
    assert np.mean(same) > 0.97


def test_openvino_runs_the_convolutions_in_int8(
    network: Path, images: CalibrationSet, tmp_path: Path
) -> None:
    import openvino

    out = tmp_path / "int8.onnx"
    report = quantise_onnx(network, images, out)
    compiled = openvino.Core().compile_model(str(out), "CPU")
    kinds = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if str(info["layerType"].astype(str)).endswith("Convolution"):
            kinds[node.get_friendly_name()] = info["runtimePrecision"].astype(str)
    in_int8 = [name for name, kind in kinds.items() if kind in ("i8", "u8")]
    assert len(in_int8) >= len(report.quantised) - 1, kinds


def test_observed_largest_is_that_of_onnxruntime(network: Path, images: CalibrationSet) -> None:
    import onnxruntime

    loaded = load_network(network)
    tensors = tensors_to_quantise(loaded, loaded.convs)
    found = observe(loaded, lambda: images.frames(SIZE, SIZE), tensors, total=len(images))
    model = onnx.ModelProto()
    model.CopyFrom(loaded.model)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    largest = np.zeros(len(tensors))
    for frame in images.frames(SIZE, SIZE):
        values = session.run(list(tensors), {"frames": frame[None]})
        largest = np.maximum(largest, [np.abs(v).max() for v in values])
    np.testing.assert_allclose([found[n].largest for n in tensors], largest, rtol=1e-4)


def test_memory_does_not_grow_with_the_images(network: Path, tmp_path: Path) -> None:
    images = select_images(save_images(tmp_path / "images", 4))
    many = CalibrationSet(images.images * 100, 0, 400)
    quantise_onnx(network, images, tmp_path / "int8.onnx")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    quantise_onnx(network, many, tmp_path / "int8.onnx")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 64 * 1024  # KiB


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x07"])
def test_a_file_that_is_no_network(images: CalibrationSet, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"bad\.onnx") as caught:
        quantise_onnx(tmp_path / "bad.onnx", images, tmp_path / "int8.onnx")
    assert caught.value.reason == "BAD_NETWORK"
    assert not (tmp_path / "int8.onnx").exists()


def test_an_int8_file_is_not_quantised_again(
    network: Path, images: CalibrationSet, tmp_path: Path
) -> None:
    quantise_onnx(network, images, tmp_path / "int8.onnx")
    with pytest.raises(CalibrationError, match="quantised already") as caught:
        quantise_onnx(tmp_path / "int8.onnx", images, tmp_path / "again.onnx")
    assert caught.value.reason == "BAD_NETWORK"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"method": "kl"}, "Allowed: mse, percentile, entropy, minmax"),
        ({"method": "percentile", "percentile": 0.0}, "over 0 and at most 100"),
        ({"keep_fp32": ["nothing"]}, "no convolution is called 'nothing'"),
        ({"keep_fp32": -1}, "allowed: 0 to 11"),
        ({"keep_fp32": 12}, "allowed: 0 to 11"),
    ],
)
def test_wrong_options(
    network: Path, images: CalibrationSet, tmp_path: Path, options: dict[str, object], line: str
) -> None:
    with pytest.raises(CalibrationError, match=line) as caught:
        quantise_onnx(network, images, tmp_path / "int8.onnx", **options)  # type: ignore[arg-type]
    assert caught.value.reason == "BAD_OPTION"
    assert not (tmp_path / "int8.onnx").exists()


def test_an_absent_network_or_folder(network: Path, images: CalibrationSet, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such network") as caught:
        quantise_onnx(tmp_path / "none.onnx", images, tmp_path / "int8.onnx")
    assert caught.value.reason == "NOT_FOUND"
    with pytest.raises(CalibrationError, match="cannot write") as caught:
        quantise_onnx(network, images, tmp_path / "absent" / "int8.onnx")
    assert caught.value.reason == "NOT_FOUND"


def save_with_weight(path: Path, name: str, value: float) -> Path:
    """The tiny network with all of one weight set to a value."""
    model = tiny_network()
    weight = next(t for t in model.graph.initializer if t.name == name)
    values = np.full(weight.dims, value, np.float32)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return path


def test_weights_that_are_not_numbers(images: CalibrationSet, tmp_path: Path) -> None:
    source = save_with_weight(tmp_path / "nan.onnx", "dw2_w", np.nan)
    with pytest.raises(CalibrationError, match="'dw2_bn_out_folded_weight' holds NaN") as caught:
        quantise_onnx(source, images, tmp_path / "int8.onnx")
    assert caught.value.reason == "BAD_NETWORK"


def test_an_overflow_on_the_way_is_named(images: CalibrationSet, tmp_path: Path) -> None:
    source = save_with_weight(tmp_path / "huge.onnx", "project_w", 1e38)
    with pytest.raises(CalibrationError, match="'project_bn_out' is not finite on") as caught:
        quantise_onnx(source, images, tmp_path / "int8.onnx")
    assert caught.value.reason == "BAD_ACTIVATIONS"


def test_a_network_without_convolutions(images: CalibrationSet, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["frames"], ["labels"], axes=[3], keepdims=0),
        ],
        "none",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, SIZE, SIZE])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    set_description(model, SPEC)
    onnx.save(model, tmp_path / "none.onnx")
    with pytest.raises(CalibrationError, match="no convolution") as caught:
        quantise_onnx(tmp_path / "none.onnx", images, tmp_path / "int8.onnx")
    assert caught.value.reason == "BAD_NETWORK"


@needs_shared_data
@pytest.mark.slow
def test_a_real_network_keeps_its_classes(tmp_path: Path) -> None:
    source = shared_data("weights", "espnetv2-s2.0-1024x512.onnx")
    images = select_images(shared_data("cityscapes-2048x1024"), 4)
    spec = EngineSpec("espnetv2", 512, 1024, input_kind="float_nchw", output_kind="logits")
    report = quantise_onnx(source, images, tmp_path / "int8.onnx", spec=spec, threads=2)
    assert len(report.quantised) > 100
    assert report.check.disagreement < 0.04


def test_a_half_precision_network_is_refused(tmp_path: Path) -> None:
    source = save_network(tmp_path / "net.onnx")
    convert_fp16(source, tmp_path / "half.onnx")
    with pytest.raises(CalibrationError, match="is FP16; INT8 is made from the FP32 network"):
        load_network(tmp_path / "half.onnx")


def test_a_network_of_one_size_is_not_calibrated_at_another(tmp_path: Path) -> None:
    source = save_network(tmp_path / "net.onnx")
    with pytest.raises(CalibrationError, match="Received: 96x64"):
        load_network(source, size=(96, 64))
    assert load_network(source, size=(SIZE, SIZE)).spec.width == SIZE
