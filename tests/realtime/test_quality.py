"""The automatic choice of a quality."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.engine import Engine
from rtseg.engines.quality import QualityPoint, quality_points
from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.quality import Probe, loop_fps, open_best, probe_engine, wanted_fps
from tests.realtime.parts import BrightnessEngine

FAST = QualityPoint("fast", 384, 384, 47.0, 86.0, 10.0)
BALANCED = QualityPoint("balanced", 512, 512, 49.0, 88.0, 20.0)
BEST = QualityPoint("best", 640, 640, 51.0, 89.0, 30.0)
POINTS = (FAST, BALANCED, BEST)
CAMERA = SourceInfo("camera", "camera", 1280, 720, fps=Fraction(30), live=True)


def choose(fps: float, rates: Mapping[str, float]) -> tuple[Engine, list[BrightnessEngine]]:
    """Let the choice be made where each level runs at the rate given."""
    opened: list[BrightnessEngine] = []
    levels: dict[int, QualityPoint] = {}

    def open_at(quality: str) -> Engine:
        opened.append(BrightnessEngine())
        levels[id(opened[-1])] = next(p for p in POINTS if p.quality == quality)
        return opened[-1]

    def probe(engine: Engine) -> Probe:
        point = levels[id(engine)]
        return Probe(fps=rates[point.quality], cpu_ms=point.cpu_ms)

    return open_best(POINTS, open_at, CAMERA, fps=fps, probe=probe), opened


@pytest.mark.parametrize(
    ("rates", "expected", "tried"),
    [
        ({"best": 100, "balanced": 200, "fast": 300}, "best", 1),
        ({"best": 40, "balanced": 70, "fast": 90}, "balanced", 2),
        ({"best": 20, "balanced": 40, "fast": 90}, "fast", 3),
        ({"best": 1, "balanced": 2, "fast": 3}, "fast", 3),
    ],
)
def test_the_best_that_keeps_up(rates: dict[str, float], expected: str, tried: int) -> None:
    engine, opened = choose(30, rates)
    assert engine.quality.startswith(expected)
    assert "30 frames/s are wanted" in engine.quality
    assert ("none keeps up" in engine.quality) == (rates["fast"] < 30)
    assert len(opened) == tried
    assert engine is opened[-1]
    assert [one.closed for one in opened] == [True] * (tried - 1) + [False]


def test_a_probe_that_fails_closes_the_engine() -> None:
    engine = BrightnessEngine()

    def probe(engine: Engine) -> Probe:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        open_best(POINTS, lambda quality: engine, CAMERA, fps=30, probe=probe)
    assert engine.closed


def test_a_network_of_one_size_has_no_choice() -> None:
    with pytest.raises(UsageError, match="one quality only"):
        open_best(
            (), lambda quality: BrightnessEngine(), CAMERA, fps=30, probe=lambda _: Probe(1, 1)
        )


@pytest.mark.parametrize(
    ("fps", "arguments", "expected"),
    [
        (Fraction(30), {}, 30),
        (None, {}, 30),
        (Fraction(60), {"stride": 3}, 20),
        (Fraction(60), {"max_fps": 15.0}, 15),
        (Fraction(10), {"max_fps": 15.0}, 10),
    ],
)
def test_the_rate_to_keep_up_with(
    fps: Fraction | None, arguments: dict[str, Any], expected: float
) -> None:
    assert wanted_fps(SourceInfo("s", "s", 64, 64, fps=fps), **arguments) == expected


@given(
    fps=st.floats(0.1, 1e4),
    cpu_ms=st.floats(0, 1e4),
    pixels=st.integers(1, 10**8),
    more=st.integers(1, 10**8),
)
def test_the_loop_is_slower_than_its_network_and_slower_for_larger_frames(
    fps: float, cpu_ms: float, pixels: int, more: int
) -> None:
    probe = Probe(fps, cpu_ms)
    small, large = (loop_fps(probe, BALANCED, count) for count in (pixels, pixels + more))
    assert 0 <= large <= small < fps


def test_a_probe_of_a_real_engine() -> None:
    with BrightnessEngine() as engine:
        found = probe_engine(engine, in_flight=2, seconds=0.01)
    assert found.fps > 0
    assert found.cpu_ms >= 0


def test_quality_and_an_engine_file_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rtseg.realtime.cli import main

    code = main(
        ["testsrc", "--out", "null", "--engine", str(tmp_path / "x.onnx"), "--quality", "auto"]
    )
    assert code == 2
    assert "--quality chooses among the sizes of a shipped network" in capsys.readouterr().err


def test_several_sources_are_counted_together(tmp_path: Path) -> None:
    from rtseg.realtime.cli import main

    profile = tmp_path / "p.json"
    picture = "lavfi:testsrc2=size=320x180:rate=10:duration=0.3"
    arguments = ["--source", picture, "--source", picture, "--out", "null", "-q"]
    assert main([*arguments, "--quality", "auto", "--profile", str(profile)]) == 0
    said = json.loads(profile.read_text())["environment"]["quality"]
    assert "frames/s are wanted" in said


def test_the_report_says_what_was_chosen_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rtseg.realtime.cli import main

    profile = tmp_path / "p.json"
    arguments = ["--source", "testsrc", "--out", "null", "--max-frames", "3"]
    assert main([*arguments, "--quality", "auto", "--profile", str(profile)]) == 0
    said = json.loads(profile.read_text())["environment"]
    assert "frames/s are wanted" in said["quality"]
    assert said["quality"].split()[1].strip("(,") == said["input"]
    assert "quality     " in capsys.readouterr().err


def test_key_frames_from_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rtseg.realtime.cli import main

    profile = tmp_path / "p.json"
    arguments = ["--source", "testsrc", "--out", "null", "--keyframes", "3"]
    assert main([*arguments, "--max-frames", "7", "-q", "--profile", str(profile)]) == 0
    report = json.loads(profile.read_text())
    assert report["environment"]["quality"] == "network on one frame in 3"
    assert report["stages"]["infer"]["n"] + sum(report["dropped"].values()) == 7
    assert main([*arguments, "--source", "testsrc"]) == 2
    assert "--keyframes follows the motion" in capsys.readouterr().err


def test_a_quality_from_python() -> None:
    from rtseg.realtime import Segmenter

    image = np.zeros((90, 160, 3), np.uint8)
    with Segmenter(quality="fast") as segment:
        assert segment(image).shape == (90, 160)


def test_any_input_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the network that ships; not beside a quality."""
    from rtseg.realtime import Segmenter
    from rtseg.realtime.cli import main

    pytest.importorskip("openvino")
    if not quality_points("espnet-lite"):
        pytest.skip("no network ships")
    profile = tmp_path / "p.json"
    arguments = ["--source", "testsrc", "--out", "null", "--max-frames", "3", "-q"]
    sized = [*arguments, "--input-size", "256x160"]
    assert main([*sized, "--profile", str(profile)]) == 0
    assert json.loads(profile.read_text())["environment"]["input"] == "256x160"
    assert main([*sized, "--quality", "fast"]) == 2
    assert "--quality and --input-size both say how large" in capsys.readouterr().err
    assert main([*arguments, "--input-size", "100x100"]) == 1
    assert "other sizes are multiples of 32. Received: 100x100" in capsys.readouterr().err
    with Segmenter(input_size=(160, 96)) as segment:
        assert segment(np.zeros((90, 160, 3), np.uint8)).shape == (90, 160)


@pytest.mark.parametrize("text", ["512", "512x", "0x64", "-32x64", "axb", "512x512x3"])
def test_an_input_size_is_width_x_height(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from rtseg.realtime.cli import main

    assert main(["testsrc", "--out", "null", f"--input-size={text}"]) == 2
    assert f"expected WxH, as in 960x544. Received: {text!r}" in capsys.readouterr().err
