"""``rt-seg-engine build --backend rtx`` and what follows it, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rtseg.engines.cuda import NoGpu, find_gpu
from rtseg.engines.deployable import read_deployable
from rtseg.engines.errors import EngineError
from rtseg.engines.quality import quality_points
from rtseg.tools.rt_seg_engine import main
from tests.calibration.nets import save_images, save_network
from tests.engines.networks import TinyNet
from tests.engines.rtx import rtx


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rt-seg"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return save_network(tmp_path / "tiny-32x32-fp32.onnx")


def build(capsys: pytest.CaptureFixture[str], *typed: str) -> dict[str, Any]:
    rtx()
    assert main(["build", "--backend", "rtx", "--json", *typed]) == 0
    shown = capsys.readouterr()
    assert all(": warning: " in line for line in shown.err.splitlines())
    record: dict[str, Any] = json.loads(shown.out)
    return record


def test_fp16_is_the_default_and_is_found_again(
    network: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = build(capsys, str(network))
    assert not first["found"]
    assert first["identity"]["precision"] == "fp16"
    assert first["layer_types"]["Half"] > 5
    assert Path(first["output"]).parent == own_cache / "engines"
    second = build(capsys, str(network))
    assert second["found"]
    assert second["output"] == first["output"]
    assert not build(capsys, str(network), "--force")["found"]
    other = build(capsys, str(network), "--max-batch", "2")
    assert other["identity"]["max_batch"] == 1  # this network's batch is not free
    assert other["found"]


def test_a_foreign_network_that_takes_any_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = TinyNet(dynamic=("hw",)).save(tmp_path / "foreign.onnx")
    identity = build(capsys, str(foreign), "--size", "96x64")["identity"]
    assert (identity["width"], identity["height"]) == (96, 64)
    assert build(capsys, str(foreign), "--size", "64x64")["identity"]["width"] == 64


def test_the_shipped_int8_network_is_the_one_that_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the sizes that come in INT8 the default one, or the one asked for."""
    taken: list[Path] = []

    def stop(source: Path, *rest: object, **options: object) -> None:
        taken.append(source)
        raise EngineError("far enough")

    monkeypatch.setattr("rtseg.engines.build.build_engine", stop)
    fast, usual, _ = quality_points("espnet-lite")
    other = f"{fast.width - 32}x{fast.height + 32}"
    for typed in ([], ["--size", f"{fast.width}x{fast.height}"], ["--size", other]):
        assert main(["build", "--backend", "rtx", "--precision", "int8", *typed]) == 1
    assert [path.name for path in taken] == [
        f"espnet-lite-{usual.width}x{usual.height}-int8.onnx",
        f"espnet-lite-{fast.width}x{fast.height}-int8.onnx",
        f"espnet-lite-{fast.width}x{fast.height}-int8.onnx",
    ]


def test_int8_is_calibrated_at_the_size_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = TinyNet(dynamic=("hw",)).save(tmp_path / "foreign.onnx")
    images = str(save_images(tmp_path / "images"))
    typed = [str(foreign), "--precision", "int8", "--calib-data", images, "--size", "96x64"]
    identity = build(capsys, *typed)["identity"]
    assert (identity["width"], identity["height"]) == (96, 64)
    out = tmp_path / "small.onnx"
    assert main(["build", str(foreign), "-o", str(out), "-q", *typed[1:]]) == 0
    assert read_deployable(out).spec.width == 96


def test_another_note_is_another_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = TinyNet().save(tmp_path / "foreign.onnx")
    note = tmp_path / "foreign.onnx.json"
    note.write_text(json.dumps({"scale": 255}), "utf-8")
    first = build(capsys, str(foreign))
    assert build(capsys, str(foreign))["found"]
    note.write_text(json.dumps({"scale": 64}), "utf-8")
    second = build(capsys, str(foreign))
    assert not second["found"]
    assert second["output"] != first["output"]


def test_int8_calibrates_once(
    network: Path, own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = str(save_images(tmp_path / "images"))
    typed = [str(network), "--precision", "int8", "--calib-data", images]
    first = build(capsys, *typed)
    assert first["layer_types"]["Int8"] >= 5
    assert len(first["identity"]["calibration_sha256"]) == 64
    (calibrated,) = (own_cache / "networks").iterdir()
    made = calibrated.stat().st_mtime_ns
    assert build(capsys, *typed)["found"]
    assert calibrated.stat().st_mtime_ns == made
    assert not build(capsys, *typed, "--calib-images", "4")["found"]
    again = build(capsys, str(calibrated), "--precision", "int8")  # an INT8 file needs no images
    assert again["identity"]["precision"] == "int8"


def test_words_of_build_and_info(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx()
    out = tmp_path / "street.engine"
    typed = ["build", str(network), "--backend", "rtx", "--precision", "fp32", "-o", str(out)]
    assert main(typed) == 0
    shown = capsys.readouterr()
    for part in (f"written    {out} (", "fp32, GPU any, 32x32, up to 1 frames", "Float"):
        assert part in shown.out
    assert "building engine (" in shown.err
    assert main([*typed, "-q"]) == 0
    assert capsys.readouterr().out.startswith("found")

    assert main(["info", str(out)]) == 0
    said = capsys.readouterr().out
    for part in ("tiny", "built by", "rtx", "any", "source sha256", "class 4", "Float", "stem"):
        assert part in said
    assert main(["info", "--json", str(out)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["bytes"] == out.stat().st_size
    assert {"stem", "logits"} <= {node for layer in record["layers"] for node in layer["nodes"]}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--precision", "int8"], "BAD_OPTION: INT8 needs images"),
        (["--verify", "."], "BAD_OPTION: --verify runs on the CPU"),
        (["--out", "{network}"], "ENGINE_UNSUPPORTED: "),
        (["--out", "absent/x.engine"], "NOT_FOUND: no such folder: absent"),
    ],
)
def test_failures_are_one_line(
    network: Path, capsys: pytest.CaptureFixture[str], typed: list[str], said: str
) -> None:
    rtx()
    before = network.read_bytes()
    rest = [part.format(network=network) for part in typed]
    code = main(["build", str(network), "--backend", "rtx", "-q", *rest])
    assert code == (2 if said.startswith("BAD_OPTION") else 1)
    shown = capsys.readouterr().err
    assert shown.startswith(f"rt-seg-engine: error: {said}")
    assert shown.count("\n") == 1
    assert network.read_bytes() == before


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "absent.onnx", "--backend", "rtx"]) == 1
    assert "NOT_FOUND: no such network: absent.onnx" in capsys.readouterr().err


def test_tensorrt_without_a_gpu_is_one_line(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not isinstance(find_gpu(), NoGpu):
        pytest.skip("this machine has a GPU")
    assert main(["build", str(network), "--backend", "tensorrt"]) == 1
    shown = capsys.readouterr().err
    assert "BACKEND_MISSING" in shown
    assert shown.count("\n") == 1


def test_a_damaged_engine(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rtx()
    out = tmp_path / "street.engine"
    assert main(["build", str(network), "--backend", "rtx", "-q", "-o", str(out)]) == 0
    out.write_bytes(out.read_bytes()[:100])
    capsys.readouterr()
    assert main(["info", str(out)]) == 1
    assert "ENGINE_DAMAGED" in capsys.readouterr().err


def test_list_says_what_builds_and_why_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    rtx()
    assert main(["list", "--json"]) == 0
    backends = {b["name"]: b for b in json.loads(capsys.readouterr().out)["backends"]}
    assert backends["rtx"]["builds"]
    if isinstance(find_gpu(), NoGpu):
        assert not backends["rtx"]["available"]
        assert "builds engine files, runs none" in backends["rtx"]["reason"]
        assert "driver" in backends["rtx"]["reason"]
        assert not backends["tensorrt"]["builds"]
        assert main(["list"]) == 0
        assert "build only" in capsys.readouterr().out


def test_openvino_runs_fp32_as_it_is(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(network), "--precision", "fp32"]) == 2
    assert "BAD_OPTION: OpenVINO runs the FP32 network as it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed", [["--backend", "cuda"], ["--max-batch", "0"], ["--workspace", "x"], ["--size", "9"]]
)
def test_wrong_usage_exits_2(network: Path, typed: list[str]) -> None:
    assert main(["build", str(network), *typed]) == 2


def test_fp16_is_tried_on_frames(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    images = str(save_images(tmp_path / "images", 3))
    tried = build(capsys, str(network), "--calib-data", images)["fp16_tried"]
    assert tried["frames"] == 3
    assert tried["agreement"] > 0.98
    assert "--calib-data" in build(capsys, str(network))["fp16_tried"]["note"]

    model = onnx.load(network)
    for weight in model.graph.initializer:
        if weight.name == "stem_w":
            large = numpy_helper.to_array(weight) * np.float32(5e4)
            weight.CopyFrom(numpy_helper.from_array(large, "stem_w"))
    onnx.save(model, tmp_path / "loud.onnx")
    out = tmp_path / "loud.engine"
    typed = ["build", str(tmp_path / "loud.onnx"), "--calib-data", images, "-q"]
    assert main([*typed, "--backend", "rtx", "--out", str(out)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(
        "rt-seg-engine: error: BAD_ACTIVATIONS: tiny cannot be computed in FP16"
    )
    assert "Conv 'stem'" in shown
    assert not out.exists()
    half = tmp_path / "half.onnx"
    assert main([*typed, "--precision", "fp16", "--out", str(half)]) == 1
    assert "BAD_ACTIVATIONS" in capsys.readouterr().err
    assert not half.exists()
