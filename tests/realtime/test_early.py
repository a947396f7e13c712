from __future__ import annotations

import numpy as np
import pytest

from rtseg.engines.errors import EngineError
from rtseg.realtime.arguments import build_parser
from rtseg.realtime.early import EarlyEngine, can_be_early
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.sources.resolve import parse_source

INFO = SourceInfo("drive.mp4", "drive", 1280, 720)


def options(*words):
    return build_parser().parse(["--source", "testsrc", *words])


def spec(tmp_path, name="drive.mp4"):
    (tmp_path / name).touch()
    return parse_source(str(tmp_path / name))


@pytest.mark.parametrize(
    ("words", "early"),
    [
        ((), True),
        (("--backend", "openvino", "--quality", "fast"), True),
        (("--engine", "net.onnx"), True),
        (("--engine", "net.plan"), False),
        (("--quality", "auto"), False),
        (("--device", "cuda:0"), False),
        (("--backend", "tensorrt"), False),
    ],
    ids=str,
)
def test_what_depends_on_nothing_but_the_options_is_early(words, early, tmp_path):
    assert can_be_early(options(*words), spec(tmp_path)) is early


@pytest.mark.parametrize("source", ["camera0", "rtsp://host/live", "testsrc", "-", "screen"])
def test_only_a_files_engine_is_early(source):
    assert not can_be_early(options(), parse_source(source))


def test_the_engine_of_several_sources_is_not_early():
    with EarlyEngine(options(), None) as early:
        assert early._thread is None


@pytest.mark.parametrize("words", [(), ("--quality", "auto")], ids=["early", "late"])
def test_the_engine_that_is_taken_stays_open(words, tmp_path):
    with EarlyEngine(options(*words), spec(tmp_path)) as early:
        engine = early.take(INFO)
    with engine:
        assert engine.spec.network == "espnet-lite"
        frames = np.zeros((1, engine.spec.height, engine.spec.width, 3), np.uint8)
        assert engine.infer(frames).shape == frames.shape[:3]


def test_what_nobody_takes_is_closed(tmp_path, monkeypatch):
    closed = []

    class Fake:
        def close(self):
            closed.append(self)

    monkeypatch.setattr("rtseg.realtime.quality.open_chosen", lambda options, info: Fake())
    with pytest.raises(OSError, match="the source"), EarlyEngine(options(), spec(tmp_path)):
        raise OSError("the source cannot be opened")
    assert len(closed) == 1


def test_an_engine_that_cannot_be_opened_is_said_when_it_is_needed(tmp_path):
    with EarlyEngine(options("--model", "no-such"), spec(tmp_path)) as early:  # noqa: SIM117
        with pytest.raises(EngineError, match="unknown model"):
            early.take(INFO)
