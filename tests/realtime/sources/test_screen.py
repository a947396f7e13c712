"""What a screen shows, on a real X server."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from tests.servers.display import needs_xvfb, xvfb


@needs_xvfb
def test_the_whole_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    with xvfb("320x240x24") as display:
        monkeypatch.setenv("DISPLAY", display)
        with open_source("screen") as source:
            info = source.info
            frames = list(itertools.islice(source.frames(), 5))
    assert (info.width, info.height, info.live, info.stem) == (320, 240, True, "screen")
    assert info.fps == 30
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
    assert {(f.video.width, f.video.height) for f in frames} == {(320, 240)}


@needs_xvfb
def test_rate_and_size_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with xvfb("320x240x24") as display:
        monkeypatch.setenv("DISPLAY", display)
        with open_source("screen", SourceOptions(width=100, height=50, fps=10)) as source:
            assert (source.info.width, source.info.height) == (100, 50)
            assert source.info.fps == 10


@needs_xvfb
def test_a_screen_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with xvfb("320x240x24", "160x120x24") as display:
        monkeypatch.setenv("DISPLAY", display)
        # Without xrandr's list of monitors, the number is that of the X screen.
        monkeypatch.setenv("PATH", "")
        sizes = []
        for number in (0, 1):
            with open_source(f"screen:{number}") as source:
                sizes.append((source.info.width, source.info.height))
        assert sizes == [(320, 240), (160, 120)]
        with pytest.raises(SourceError) as caught:
            open_source("screen:7").open()
        assert caught.value.reason == "NO_DISPLAY"


@needs_xvfb
def test_close_ends_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    with xvfb("320x240x24") as display:
        monkeypatch.setenv("DISPLAY", display)
        source = open_source("screen", SourceOptions(fps=5, timeout_s=30))
        source.open()
        thread = threading.Thread(target=lambda: list(source.frames()))
        thread.start()
        time.sleep(0.3)
        source.close()
        thread.join(15)
        assert not thread.is_alive()


@pytest.mark.parametrize("display", ["", ":9731"])
def test_no_display(monkeypatch: pytest.MonkeyPatch, display: str) -> None:
    monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(SourceError) as caught:
        open_source("screen").open()
    assert caught.value.reason == "NO_DISPLAY"
    assert "\n" not in str(caught.value)


@needs_xvfb
def test_opencv_before_pyav_is_an_error_and_no_crash() -> None:
    """Both wheels bring libxcb's parts; with OpenCV's copies first, x11grab crashes."""
    code = (
        "import cv2, av\n"
        "from rtseg.realtime import SourceError, open_source\n"
        "try:\n"
        "    open_source('screen').open()\n"
        "except SourceError as error:\n"
        "    print(error.reason)\n"
        "else:\n"
        "    print('opened')\n"
    )
    with xvfb("320x240x24") as display:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "DISPLAY": display},
        )
    # An OpenCV without a GUI of its own (headless) brings no such libraries.
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("LIBRARY_CLASH", "opened")
