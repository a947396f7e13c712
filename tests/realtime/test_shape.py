"""A shipped network's input takes the shape of a narrow source, and of no other."""

from __future__ import annotations

import argparse
import json
import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.arguments import build_parser
from rtseg.realtime.cli import main
from rtseg.realtime.early import EarlyEngine
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.quality import open_asked
from rtseg.realtime.shape import LEAST_WORK, MOST_WORK, NARROW, narrow_shape, size_like
from rtseg.realtime.sources.resolve import parse_source
from tests.engines.networks import TinyNet
from tests.media import make_video

PHONE = SourceInfo("phone.mp4", "phone", 1080, 1920)
DRIVE = SourceInfo("drive.mp4", "drive", 1280, 720)


def options(*words: str) -> argparse.Namespace:
    return build_parser().parse(["--source", "testsrc", *words])


def opened(info: SourceInfo, *words: str) -> tuple[tuple[int, int], str]:
    with open_asked(options(*words), info) as engine:
        spec = engine.spec
        frames = np.zeros((1, spec.height, spec.width, 3), np.uint8)
        assert engine.infer(frames).shape == frames.shape[:3]
        return (spec.width, spec.height), engine.quality


@given(shape=st.floats(1e-4, NARROW), pixels=st.sampled_from([448 * 352, 640 * 480, 768 * 576]))
def test_the_other_size_has_as_many_pixels(shape: float, pixels: int) -> None:
    width, height = size_like(shape, pixels)
    assert width % 32 == height % 32 == 0
    assert LEAST_WORK * pixels <= width * height <= MOST_WORK * pixels
    assert width <= height <= 8 * width


@pytest.mark.parametrize(
    ("width", "height", "aspect", "pictures", "narrow"),
    [
        (1280, 720, 1, 0, None),
        (640, 480, 1, 0, None),
        (1080, 1920, 1, 0, 0.5625),
        (1000, 1000, 1, 1, 1.0),
        (1000, 1000, 1, 2, None),  # the others may have another shape
        (960, 1080, 2, 0, None),  # a recorder's every second column
        (1920, 1080, Fraction(1, 2), 0, 8 / 9),
        (1920, 1080, Fraction(1, 200), 0, None),  # a damaged header
    ],
)
def test_which_sources_are_narrow(
    width: int, height: int, aspect: Fraction | int, pictures: int, narrow: float | None
) -> None:
    paths = tuple(Path(f"{n}.png") for n in range(pictures))
    info = SourceInfo("s", "s", width, height, sample_aspect_ratio=Fraction(aspect), pictures=paths)
    assert narrow_shape(info) == narrow


def test_a_portrait_source_has_a_portrait_input(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        size, said = opened(PHONE)
    assert size == (352, 832)
    assert said == "input 352x832 for pictures of 1080x1920"
    assert said in caplog.messages
    assert opened(DRIVE) == ((640, 480), "")


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (("--quality", "fast"), (256, 608)),
        (("--backend", "onnxruntime", "--precision", "fp32"), (352, 832)),
        (("--keyframes", "2"), (352, 832)),
        (("--input-size", "672x448"), (672, 448)),
    ],
)
def test_with_other_options(words: tuple[str, ...], size: tuple[int, int]) -> None:
    assert opened(PHONE, *words)[0] == size


def test_the_probed_quality_is_said_with_the_shape() -> None:
    _, said = opened(PHONE, "--quality", "auto")
    assert "frames/s are wanted" in said
    assert said.endswith("for pictures of 1080x1920")


def test_a_network_of_the_users_stays_as_it_is(tmp_path: Path) -> None:
    path = TinyNet().save(tmp_path / "net.onnx")
    assert opened(PHONE, "--engine", str(path)) == ((48, 32), "")


def test_an_early_engine_is_replaced_when_the_source_is_known(tmp_path: Path) -> None:
    (tmp_path / "phone.mp4").touch()
    spec = parse_source(str(tmp_path / "phone.mp4"))
    for info, size in ((DRIVE, (640, 480)), (PHONE, (352, 832))):
        with EarlyEngine(options(), spec) as early, early.take(info) as engine:
            assert (engine.spec.width, engine.spec.height) == size


def test_each_clip_of_a_batch_has_its_shape(tmp_path: Path) -> None:
    for name, size in (("a", (96, 64)), ("b", (64, 96)), ("c", (96, 64)), ("d", (128, 96))):
        make_video(tmp_path / f"{name}.mp4", 2, size)
    profile = str(tmp_path / "{stem}.json")
    assert main(["--batch", str(tmp_path), "--out", "null", "-q", "--profile", profile]) == 0
    reports = [json.loads((tmp_path / f"{name}.json").read_text()) for name in "abcd"]
    said = [report["environment"]["quality"] for report in reports]
    assert said == ["", "input 384x768 for pictures of 64x96", "", ""]
