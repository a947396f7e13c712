from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rtseg.tools.rt_seg_model import main
from tests.models.scenes import write_cityscapes


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in (
        "train",
        "unweight",
        "evaluate",
        "average",
        "export",
        "summary",
        "pseudo-label",
    ):
        assert command in out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["train"],
        ["evaluate", "x.onnx"],
        ["train", "c", "--out", "o", "--steps", "-3"],
        ["summary", "--size", "512"],
        ["evaluate", "x.onnx", "--data", "d", "--network", "espnet-s0"],
        ["evaluate", "x.weights.h5", "--data", "d", "--backend", "tensorrt"],
        ["pseudo-label", "x.png", "--teacher", "t.onnx", "--out", "o", "--threshold", "nan"],
        ["average", "a.weights.h5", "b.weights.h5"],
        ["average", "a.weights.h5", "b.weights.h5", "--out", "c.weights.h5", "--shares", "3;7"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "rt-seg-model: error: USAGE: " in capsys.readouterr().err


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("rt-seg-model:")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def test_failures_are_one_line_and_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "none.json"), "--out", out]) == 1
    assert "error: NOT_FOUND: cannot read configuration" in one_line(capsys)

    assert main(["train", "espnet-lite", "--out", out, "--data", str(tmp_path)]) == 1
    assert "NOT_FOUND: no such data set folder" in one_line(capsys)

    assert main(["train", "espnet-lite", "--out", out, "--root", "moon=/x"]) == 2
    assert "BAD_CONFIG: --root moon=/x: expected NAME=DIR" in one_line(capsys)

    assert main(["evaluate", str(tmp_path / "x.onnx"), "--data", str(tmp_path / "no")]) == 1
    assert "NOT_FOUND: no such data set folder" in one_line(capsys)

    write_cityscapes(tmp_path / "city", "val", count=1)
    assert main(["evaluate", str(tmp_path / "x.onnx"), "--data", str(tmp_path / "city")]) == 1
    assert "NOT_FOUND" in one_line(capsys)


def test_export_does_not_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("mine")
    assert main(["export", str(tmp_path / "w.weights.h5"), str(target)]) == 2
    assert "-y replaces it" in one_line(capsys)
    assert target.read_text() == "mine"


def test_an_export_is_an_onnx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "net"
    assert main(["export", str(tmp_path / "w.weights.h5"), str(target)]) == 2
    assert "error: USAGE: an exported network is an .onnx file" in one_line(capsys)
    assert not target.exists()


def test_a_network_from_weights_to_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("keras", reason="needs the extra 'train'")
    from rtseg.models.registry import build

    weights = tmp_path / "w.weights.h5"
    build("espnet-lite", 64, 64).save_weights(weights)
    target = tmp_path / "net-64x64-fp32.onnx"
    assert main(["export", str(weights), str(target), "--size", "64x64"]) == 0
    write_cityscapes(tmp_path / "city", "val", count=1)
    capsys.readouterr()
    root = str(tmp_path / "city")
    assert main(["evaluate", str(target), "--data", root, "--json"]) == 0
    by_engine = json.loads(capsys.readouterr().out.splitlines()[-1])
    arguments = ["evaluate", str(weights), "--data", root, "--size", "64x64", "--json"]
    assert main(arguments) == 0
    by_keras = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert by_engine["images"] == by_keras["images"] == 1
    assert by_engine["pixel_accuracy"] == pytest.approx(by_keras["pixel_accuracy"], abs=0.05)


def test_weights_of_two_runs_are_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("keras", reason="needs the extra 'train'")
    from rtseg.models.registry import build

    models = [build("fast-scnn", 64, 64) for _ in range(2)]
    names = [str(tmp_path / f"{place}.weights.h5") for place in "ab"]
    for model, name in zip(models, names, strict=True):
        model.save_weights(name)
    out = tmp_path / "mean.weights.h5"
    arguments = ["average", *names, "--out", str(out), "--network", "fast-scnn"]
    assert main([*arguments, "--shares", "1:3"]) == 0
    assert "the mean of 2 files" in capsys.readouterr().out
    mean = build("fast-scnn", 64, 64)
    mean.load_weights(out)
    first, second = (model.get_weights() for model in models)
    for got, one, other in zip(mean.get_weights(), first, second, strict=True):
        np.testing.assert_allclose(got, 0.25 * one + 0.75 * other, rtol=1e-5, atol=1e-6)

    assert main(arguments) == 2
    assert "-y replaces it" in one_line(capsys)
    assert main([*arguments, "-y", "--shares", "1e308:1e308"]) == 0  # their sum overflows
    mean.load_weights(out)
    assert any(np.abs(weight).max() > 0.01 for weight in mean.get_weights())
    assert main([*arguments, "-y", "--shares", "1:2:3"]) == 2
    assert "expected 2 shares above 0" in one_line(capsys)
    assert main([*arguments, "-y", "--shares", "1:-2"]) == 2
    assert "expected 2 shares above 0" in one_line(capsys)
    assert main(["average", names[0], "--out", str(out), "-y", "--network", "fast-scnn"]) == 2
    assert "at least two files" in one_line(capsys)
    assert main([*arguments[:4], str(tmp_path / "mean.onnx"), "--network", "fast-scnn"]) == 2
    assert ".weights.h5" in one_line(capsys)
    assert main(["average", *names, "--out", str(out), "-y"]) == 1
    assert "does not fit espnet-lite" in one_line(capsys).lower()
    mean.load_weights(out)  # what failed left the file as it was


def test_summary_counts(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras", reason="needs the extra 'train'")
    assert main(["summary", "espnet-lite", "--size", "64x64", "--json"]) == 0
    (size,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert size["name"] == "espnet-lite"
    assert size["macs"] > 10_000_000
    assert main(["summary", "resnet"]) == 2
    assert "Allowed: espnet-lite" in one_line(capsys)


@pytest.mark.parametrize("extra", [["--json"], []])
def test_a_reader_that_leaves_is_no_failure(extra: list[str]) -> None:
    pytest.importorskip("keras", reason="needs the extra 'train'")
    typed = [sys.executable, "-m", "rtseg.tools.rt_seg_model", "summary", "fast-scnn", *extra]
    process = subprocess.Popen(
        [*typed, "--size", "64x64"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode()  # TensorFlow has its say there, too
    assert "BrokenPipe" not in said
    assert process.wait(60) == 0


def test_a_run_whose_reader_leaves_says_that_it_is_not_done(tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="needs the extra 'train'")
    write_cityscapes(tmp_path / "city", "train", count=1)
    run = {
        "network": "fast-scnn",
        "size": 64,
        "sources": [{"root": "city", "share": 1}],
        "phases": [{"until": 1.0, "crop": 32, "batch": 2}],
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    typed = [sys.executable, "-m", "rtseg.tools.rt_seg_model", "train", str(tmp_path / "run.json")]
    process = subprocess.Popen(
        [*typed, "--data", str(tmp_path), "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode().splitlines()[-1]
    assert said.startswith("rt-seg-model: error: OUTPUT_CLOSED: ")
    assert process.wait(60) == 1


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["torch", "keras"])
def test_a_run_from_the_command_line(
    trainer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("keras", reason="needs the extra 'train'")
    if trainer == "torch":
        pytest.importorskip("torch", reason="the accelerated trainer needs torch")
    write_cityscapes(tmp_path / "city", "train")
    write_cityscapes(tmp_path / "city", "val", count=1)
    config = {
        "network": "espnet-lite",
        "sources": [{"root": "city", "share": 1}],
        "size": 64,
        "phases": [{"until": 1.0, "crop": 32, "batch": 2}],
        "steps": 2,
        "imagenet": False,
        "validation": {"root": "city", "share": 1, "split": "val"},
    }
    (tmp_path / "run.json").write_text(json.dumps(config))
    out = tmp_path / "run"
    arguments = ["train", str(tmp_path / "run.json"), "--out", str(out), "--trainer", trainer]
    arguments += ["--data", str(tmp_path)]
    assert main(arguments) == 0, capsys.readouterr().err
    assert "step 2: mIoU" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "holds a run already" in one_line(capsys)
    other = [str(tmp_path / "other") if part == str(out) else part for part in arguments]
    assert main([*other, "--start", str(tmp_path / "none.weights.h5")]) == 1
    assert "NOT_FOUND: no such weights file" in one_line(capsys)
    assert main([*arguments, "--resume"]) == 0
    assert "resumed at step 2" in capsys.readouterr().out
    onnx_file = str(tmp_path / "net.onnx")
    weights = str(out / "average.weights.h5")
    assert main(["export", weights, onnx_file, "--size", "64x64"]) == 0
