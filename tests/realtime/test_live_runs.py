"""Whole runs on live parts: a window on a real X server, a stream of a real RTSP server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from rtseg.realtime.cli import main
from tests.servers.display import needs_xvfb, xvfb
from tests.servers.running import needs_rtsp_server, rtsp_server

T = TypeVar("T")
COMMAND = [sys.executable, "-c", "from rtseg.realtime.cli import command; command()"]

OTHER_PIPELINE = (
    "( videotestsrc is-live=true pattern=ball "
    "! video/x-raw,format=I420,width=160,height=120,framerate=10/1 "
    "! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)

needs_xdotool = pytest.mark.skipif(shutil.which("xdotool") is None, reason="needs xdotool")


def wait_for(condition: Callable[[], T], process: subprocess.Popen[str]) -> T:
    deadline_s = time.monotonic() + 120
    while not (value := condition()):
        assert process.poll() is None, "the run ended early"
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    return value


@needs_xvfb
@needs_xdotool
def test_a_window_shows_the_run_and_q_quits(tmp_path: Path) -> None:
    log = tmp_path / "frames.jsonl"
    with xvfb("800x600x24") as display:
        environment = {**os.environ, "DISPLAY": display}
        process = subprocess.Popen(
            [*COMMAND, "--source", "testsrc", "--jsonl", str(log), "--out", "window", "--legend"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

        def xdotool(*words: str) -> str:
            done = subprocess.run(
                ["xdotool", *words], capture_output=True, text=True, env=environment, check=False
            )
            return done.stdout.split("\n")[0]

        try:
            window = wait_for(lambda: xdotool("search", "--name", "rt-seg"), process)
            wait_for(lambda: log.exists() and log.read_text().count("\n") > 5, process)
            xdotool("windowfocus", window)
            xdotool("key", "--window", window, "q")
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert "end         quit" in said


@needs_rtsp_server
def test_an_rtsp_stream_becomes_a_file_and_the_report_counts_every_frame(tmp_path: Path) -> None:
    out, profile = tmp_path / "seg.mkv", tmp_path / "profile.json"
    with rtsp_server() as (port, _):
        code = main(
            [
                *("--source", f"rtsp://user:s3cret@127.0.0.1:{port}/live"),
                *("--out", str(out), "--max-frames", "40", "-q", "--profile", str(profile)),
            ]
        )
    assert code == 0
    text = profile.read_text()
    assert "s3cret" not in text
    report = json.loads(text)
    dropped = sum(report["dropped"].values())
    waiting = 2  # one in the slot and one in flight when the run was told to end
    assert 0 <= report["frames_in"] - report["frames_out"] - dropped <= waiting
    assert report["frames_out"] + dropped >= 38


@needs_rtsp_server
def test_a_server_that_goes_away_is_one_line_and_the_file_plays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import av

    out, log = tmp_path / "seg.mp4", tmp_path / "frames.jsonl"
    with rtsp_server() as (port, server):
        process = subprocess.Popen(
            [
                *(*COMMAND, f"rtsp://127.0.0.1:{port}/live", str(out)),
                *("--jsonl", str(log), "--timeout", "3", "--no-progress", "--reconnect", "0"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: log.exists() and log.read_text().count("\n") > 10, process)
            server.kill()
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if "error:" in line]
    if process.returncode == 1:  # some servers say goodbye (end of input), some just vanish
        assert len(errors) == 1
    else:
        assert process.returncode == 0
        assert not errors
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 10


@needs_rtsp_server
def test_a_run_goes_on_when_its_server_comes_back_with_another_picture(tmp_path: Path) -> None:
    import av

    out, log, profile = tmp_path / "seg.mp4", tmp_path / "frames.jsonl", tmp_path / "profile.json"

    def frames() -> int:
        return log.read_text().count("\n") if log.exists() else 0

    with rtsp_server() as (port, server):
        process = subprocess.Popen(
            [
                *(*COMMAND, f"rtsp://127.0.0.1:{port}/live", str(out), "--no-progress"),
                *("--jsonl", str(log), "--timeout", "5", "--profile", str(profile)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: frames() > 10, process)
        server.kill()
    try:
        seen = frames() + 5
        with rtsp_server(OTHER_PIPELINE, port=port):
            wait_for(lambda: frames() > seen, process)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, said
    assert "RECONNECTED" in said
    assert "Traceback" not in said
    assert json.loads(profile.read_text())["reconnects"] == 1
    stamps_s = [json.loads(line)["pts_s"] for line in log.read_text().splitlines()]
    assert stamps_s == sorted(set(stamps_s))
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == (320, 240)
        assert sum(1 for _ in container.decode(video)) > 15


def test_a_wrong_number_of_tries_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("-1", "soon", "1.5", ""):
        assert main(["--source", "rtsp://127.0.0.1/x", f"--reconnect={wrong}"]) == 2
        assert "forever, or a whole number" in capsys.readouterr().err
