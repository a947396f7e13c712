"""No library makes an environment variable while the process has threads that may look one up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.engines.variables import make_variables
from tests.media import make_video

_WATCH = """
import json, os, sys, threading
known = {os.fsencode(name) for name in os.environ}
late = []
def watch(event, arguments):
    if event == "os.putenv" and arguments[0] not in known:
        known.add(arguments[0])
        if threading.active_count() > 1:
            late.append(os.fsdecode(arguments[0]))
sys.addaudithook(watch)
"""
_COMMAND = """
from rtseg.realtime.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, late]))
"""
_SEGMENTER = """
from rtseg.realtime import Segmenter
with Segmenter() as segment:
    seen = sum(1 for _ in segment.stream(sys.argv[1]))
import cv2
print(json.dumps([0 if seen else 1, late]))
"""


def run(program: str, *arguments: str) -> tuple[int, list[str]]:
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    done = subprocess.run(
        [sys.executable, "-c", _WATCH + program, *arguments],
        capture_output=True,
        text=True,
        env=clean,
        check=True,
        timeout=120,
    )
    code, late = json.loads(done.stdout.strip().splitlines()[-1])
    return code, late


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux' C library")
@pytest.mark.parametrize("out", ["seg.mp4", "av1.mkv"])
def test_the_command_makes_none_beside_threads(tmp_path: Path, out: str) -> None:
    clip = make_video(tmp_path / "clip.mp4", frames=5, size=(160, 96))
    codec = ["--codec", "av1"] if out == "av1.mkv" else []
    arguments = ["--source", str(clip), "--out", str(tmp_path / out), "-q", *codec]
    assert run(_COMMAND, *arguments) == (0, [])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux' C library")
def test_the_segmenter_makes_none_beside_threads(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", frames=5, size=(160, 96))
    assert run(_SEGMENTER, str(clip)) == (0, [])


def test_what_is_there_keeps_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    make_variables()
    assert os.environ["LD_LIBRARY_PATH"] == "/opt/lib"
