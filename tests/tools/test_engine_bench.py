"""``rt-seg-engine bench``: engines side by side, on real frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.engines.registry import open_engine
from rtseg.tools.engine_measure import Measured, against, frames_for, measure, spread
from rtseg.tools.rt_seg_engine import main
from tests.calibration.nets import save_images
from tests.engines.networks import TinyNet


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return TinyNet().save_ours(tmp_path / "net.onnx")


def test_engines_are_compared_with_a_baseline(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = save_images(tmp_path / "images", 3)
    typed = ["bench", str(network), "--run", "openvino:fp32", "--run", "onnxruntime:fp32"]
    typed += ["--data", str(images), "-n", "4", "--rounds", "3", "--warmup", "1"]
    assert main([*typed, "--baseline", "onnxruntime:fp32", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["baseline"] == "onnxruntime:fp32"
    assert [engine["name"] for engine in record["engines"]] == ["openvino:fp32", "onnxruntime:fp32"]
    mine, base = record["engines"]
    assert (mine["backend"], base["backend"]) == ("openvino", "onnxruntime")
    assert mine["frames"] == "3 of images"
    for row in (*mine["rounds"].values(), *mine["against_baseline"].values()):
        assert 0 < row["least"] <= row["median"] <= row["most"]
    for row in base["against_baseline"].values():
        assert set(row.values()) == {1.0}

    assert main(typed) == 0
    shown = capsys.readouterr()
    assert "times as fast as openvino:fp32" in shown.out
    assert "1.00 (1.00 – 1.00)" in shown.out
    assert "3 rounds in turn, n 4" in shown.out
    assert "frames: 3 of images" in shown.out
    assert "measure" in shown.err


def test_files_side_by_side(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = TinyNet(channels=8).save_ours(tmp_path / "other.onnx")
    short = ["-n", "2", "--rounds", "1", "--warmup", "0", "--json"]
    assert main(["bench", str(network), str(other), "--backend", "openvino", *short]) == 0
    names = [engine["name"] for engine in json.loads(capsys.readouterr().out)["engines"]]
    assert names == ["openvino=net.onnx", "openvino=other.onnx"]
    assert main(["bench", "--run", f"openvino:fp32={network}", *short]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "openvino:fp32=net.onnx"


def test_noise_is_called_noise(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["-n", "2", "--warmup", "0"]
    assert main(["bench", str(network), *short]) == 0
    assert "frames: noise." in capsys.readouterr().out
    assert main(["bench", str(network), *short, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == "noise"


def test_frames_of_the_data_are_what_the_engine_sees(network: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gray"
    folder.mkdir()
    assert cv2.imwrite(str(folder / "gray.png"), np.full((64, 96, 3), 77, np.uint8))
    with open_engine(network) as engine:
        (frame,) = frames_for(engine, [folder])
        assert frame.shape == (1, 32, 48, 3)
        assert (frame == 77).all()
        assert len(frames_for(engine, [])) == 2


def test_every_engine_begins_a_round_in_turn(network: Path) -> None:
    steps: list[int] = []
    with (
        open_engine(network, backend="openvino") as one,
        open_engine(network, backend="openvino") as two,
    ):
        shown = frames_for(one, [])
        found = measure(
            [one, two],
            [shown, shown],
            rounds=2,
            warmup=0,
            count=3,
            progress=lambda _, done, total: steps.append(done * 100 + total),
        )
    assert steps == [104, 204, 304, 404]
    for seen in found:
        assert len(seen.latency_ms) == len(seen.loaded_ms) == 6
        assert len(seen.fps_by_round) == 2


def test_ratios_are_of_each_round() -> None:
    base = Measured(latency_by_round=[10.0, 40.0, 20.0], fps_by_round=[100.0, 25.0, 50.0])
    mine = Measured(latency_by_round=[5.0, 10.0, 10.0], fps_by_round=[200.0, 100.0, 200.0])
    assert against(mine, base) == {
        "latency_speedup": {"median": 2.0, "least": 2.0, "most": 4.0},
        "throughput_speedup": {"median": 4.0, "least": 2.0, "most": 4.0},
    }
    assert spread([3.0, 1.0]) == {"median": 2.0, "least": 1.0, "most": 3.0}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--baseline", "absent"], "BAD_OPTION: no engine is called 'absent'. Allowed: auto"),
        (["--run", "openvino:int7"], "BAD_OPTION: --run takes BACKEND[:PRECISION][=FILE]"),
        (["--run", ":fp32"], "BAD_OPTION: --run takes"),
        (["--run", "openvino", "--run", "openvino"], "BAD_OPTION: openvino is named twice"),
        (["--run", "openvin"], "BAD_OPTION: unknown backend 'openvin'"),
        (["--data", "absent"], "NOT_FOUND: no such calibration data: absent"),
    ],
)
def test_failures_are_one_line(
    network: Path, capsys: pytest.CaptureFixture[str], typed: list[str], said: str
) -> None:
    assert main(["bench", str(network), *typed]) == (2 if said.startswith("BAD_OPTION") else 1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"rt-seg-engine: error: {said}")
    assert shown.err.count("\n") == 1
