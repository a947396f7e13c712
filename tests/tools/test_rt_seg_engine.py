"""The command rt-seg-engine, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.tools.rt_seg_engine import main
from tests.engines.networks import TinyNet


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_info_says_what_is_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = TinyNet(classes=4).save_ours(tmp_path / "net.onnx", licence="research only")
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    for part in ("tiny", "48x32 (width x height)", "fp32", "0.485", "research only", "class_3"):
        assert part in said


def test_info_says_what_is_assumed_of_a_foreign_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = TinyNet(dynamic=("hw",)).save(tmp_path / "net.onnx")
    assert main(["info", "--json", "--size", "64x96", str(path)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["width"], record["height"]) == (64, 96)
    assert record["assumed"]
    assert record["classes"]["names"][0] == "road"


def test_info_of_an_ir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openvino = pytest.importorskip("openvino")
    network = openvino.Core().read_model(TinyNet().save(tmp_path / "net.onnx"))
    openvino.save_model(network, tmp_path / "ir.xml")
    assert main(["info", str(tmp_path / "ir.xml")]) == 0
    assert "48x32" in capsys.readouterr().out


def test_list_names_every_runtime(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("openvino", "onnxruntime", "tensorrt", "Shipped networks"):
        assert name in said
    assert main(["list", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {backend["name"] for backend in record["backends"]} >= {"openvino", "tensorrt"}


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_bench_measures_latency_and_throughput(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    path = TinyNet().save_ours(tmp_path / "net.onnx")
    typed = ["bench", str(path), "-n", "12", "--warmup", "2", "--mode", mode, "--json"]
    assert main(typed) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["n"] == 12
    assert record["mode"] == mode
    assert record["requests"] >= 2
    assert record["throughput_fps"] > 0
    assert record["cpu_ms_a_frame"] > 0
    for key in ("latency_ms", "compute_ms", "compute_loaded_ms"):
        row = record[key]
        assert 0 < row["p50"] <= row["p90"] <= row["p95"] <= row["p99"] <= row["max"]
    assert record["latency_ms"]["mean"] >= record["compute_ms"]["mean"]


def test_bench_says_what_is_inside_the_clock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = TinyNet().save_ours(tmp_path / "net.onnx")
    assert main(["bench", str(path), "-n", "3", "--warmup", "0"]) == 0
    said = capsys.readouterr().out
    assert "Inside the clocks: normalisation, network, upsampling, argmax" in said
    assert "frames/s" in said


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (["info", "absent.onnx"], "NOT_FOUND"),
        (["bench", "absent.onnx"], "NOT_FOUND"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], typed: list[str], reason: str
) -> None:
    assert main(typed) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"rt-seg-engine: error: {reason}: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "typed",
    [
        ["bench", "--model", "absent"],
        ["bench", "--backend", "absent"],
        ["bench", "--backend", "openvino", "--device", "cuda:0"],
        ["bench", "--device", "cuda:²"],
        ["bench", "--run", "foo:xyz"],
        ["bench", "--baseline", "nope"],
        ["build", "--backend", "rtx", "--target", "xyz"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], typed: list[str]
) -> None:
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert said.startswith("rt-seg-engine: error: BAD_OPTION: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["absent"],
        ["info"],
        ["bench", "-n", "0"],
        ["bench", "-n", "x"],
        ["bench", "--threads", "-1"],
        ["bench", "--requests", "1025"],
        ["bench", "--size", "512"],
        ["bench", "--mode", "fast"],
        ["list", "--absent"],
    ],
)
def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str], typed: list[str]) -> None:
    assert main(typed) == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize("typed", [["--help"], ["bench", "--help"]])
def test_help_is_no_failure(capsys: pytest.CaptureFixture[str], typed: list[str]) -> None:
    assert main(typed) == 0
    assert "usage: rt-seg-engine" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_failure(tmp_path: Path) -> None:
    path = TinyNet(classes=250).save_ours(tmp_path / "net.onnx")
    typed = [sys.executable, "-m", "rtseg.tools.rt_seg_engine", "info", str(path)]
    process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(60) == 0


def test_help_loads_no_runtime() -> None:
    code = (
        "import sys; from rtseg.tools.rt_seg_engine import main; main(['--help']);"
        "print([m for m in ('openvino', 'onnxruntime', 'onnx', 'cv2', 'av') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip().endswith("[]")
