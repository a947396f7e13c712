"""The Python interface: what it yields, and that nothing outlives who uses it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from rtseg.realtime import Segmenter
from rtseg.realtime.errors import SourceError
from rtseg.realtime.profile import Profiler
from tests.media import make_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("api") / "drive.mp4", frames=12, size=(320, 180))


def loops() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rtseg-")]


def test_a_file_gives_every_frame(clip: Path) -> None:
    profiler = Profiler()
    with Segmenter() as segment:
        results = list(segment.stream(clip, profiler=profiler))
    assert [result.index for result in results] == list(range(12))
    for result in results:
        assert result.labels.shape == (180, 320)
        assert result.overlay.shape == (180, 320, 3)
        assert {"decode", "preprocess", "infer"} <= set(result.stages_ms)
    assert (profiler.frames_in, profiler.frames_out, profiler.dropped) == (12, 12, {})
    assert loops() == []


def test_arrays() -> None:
    with Segmenter() as segment:
        image = np.full((90, 160, 3), 90, np.uint8)
        assert segment(image).shape == (90, 160)
        assert segment.overlay(image).shape == (90, 160, 3)


def test_leaving_early_ends_the_loop(clip: Path) -> None:
    profiler = Profiler()
    with Segmenter() as segment:
        for result in segment.stream(str(clip), profiler=profiler):
            if result.index == 2:
                break
        del result
        assert loops() == []
    assert profiler.frames_in == profiler.frames_out + sum(profiler.dropped.values())


def test_closing_the_segmenter_ends_its_streams() -> None:
    segment = Segmenter()
    stream = segment.stream("testsrc")
    next(stream)
    segment.close()
    assert loops() == []
    assert list(stream) == []


def test_a_source_that_is_not_there() -> None:
    with Segmenter() as segment, pytest.raises(SourceError, match=r"nowhere\.mp4"):
        next(segment.stream("nowhere.mp4"))
    assert loops() == []


def test_a_program_ends_with_a_stream_in_its_hands() -> None:
    code = """
from rtseg.realtime import Segmenter
segment = Segmenter()
stream = segment.stream("testsrc")
next(stream)
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert "Traceback" not in done.stderr
