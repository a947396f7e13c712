"""Whole runs over several sources: grids, files of their own, reports, and what one's end does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import av
import pytest

from rtseg.realtime.cli import main
from rtseg.realtime.errors import UsageError
from rtseg.realtime.several import split_outputs
from tests.media import make_video
from tests.servers.running import needs_rtsp_server, rtsp_server

COMMAND = [sys.executable, "-c", "from rtseg.realtime.cli import command; command()"]
T = TypeVar("T")


def run(*words: object) -> int:
    return main([str(word) for word in words])


def video_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    return [
        make_video(tmp_path / "front.mp4", frames=20, size=(128, 72), audio=True),
        make_video(tmp_path / "rear.mp4", frames=12, size=(96, 64)),
    ]


def test_files_of_their_own_lose_no_frame(clips: list[Path], tmp_path: Path) -> None:
    out, lines, profile = tmp_path / "out", tmp_path / "f.jsonl", tmp_path / "p.json"
    out.mkdir()
    words = [word for clip in clips for word in ("--source", clip)]
    code = run(*words, "--out", out, "--jsonl", lines, "--labels-out", tmp_path / "ids",
               "--profile", profile, "-q")  # fmt: skip
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["front_seg.mp4", "rear_seg.mp4"]
    assert len(video_times(out / "front_seg.mp4")) == 20
    assert len(video_times(out / "rear_seg.mp4")) == 12
    with av.open(str(out / "front_seg.mp4")) as container:
        assert container.streams.audio
    counts = Counter(line["source"] for line in lines_of(lines))
    assert counts == {"front": 20, "rear": 12}
    assert len(list((tmp_path / "ids").glob("rear_*.png"))) == 12
    report = json.loads(profile.read_text())
    assert (report["frames_in"], report["frames_out"], report["dropped"]) == (32, 32, {})
    assert [
        (stream["source"], stream["frames_out"], stream["end"]) for stream in report["streams"]
    ] == [("front", 20, "end of input"), ("rear", 12, "end of input")]
    assert report["streams"][0]["latency"]["n"] == 20


def test_a_list_becomes_one_picture(clips: list[Path], tmp_path: Path) -> None:
    names, out = tmp_path / "all.streams", tmp_path / "seg.mp4"
    names.write_text("\n".join(map(str, clips)))
    assert run(names, out, "-q") == 0
    assert video_times(out) == pytest.approx([n / 25 for n in range(20)], abs=1e-4)
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == (1280, 360)


def test_a_broken_file_is_named_and_the_other_is_finished(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 100)
    out, lines = tmp_path / "seg.mp4", tmp_path / "f.jsonl"
    words = ("--source", broken, "--source", clips[0], "--out", out, "--jsonl", lines)
    assert run(*words, "--no-progress") == 1
    said = capsys.readouterr().err
    assert len(video_times(out)) == 20
    assert [line["index"] for line in lines_of(lines)] == list(range(20))
    last = said.strip().splitlines()[-1]
    assert last.startswith("rt-seg: error: ")
    assert "1 of 2 sources failed: broken: " in last
    assert "the other sources go on" in said
    assert "Traceback" not in said


def test_a_trace_tells_the_sources_apart(clips: list[Path], tmp_path: Path) -> None:
    trace = tmp_path / "t.json"
    words = [word for clip in clips for word in ("--source", clip)]
    assert run(*words, "--out", "null", "--trace", trace, "-q") == 0
    events = json.loads(trace.read_text())
    tracks = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"capture-front", "capture-rear", "infer", "render-front"} <= tracks
    begun = Counter(
        event["args"]["source"]
        for event in events
        if event["ph"] == "b" and event["name"] == "frame"
    )
    assert begun == {"front": 20, "rear": 12}
    ids = [event["id"] for event in events if event["ph"] == "b" and event["name"] == "frame"]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("layout", "texts", "shared", "own"),
    [
        (None, ["seg.mp4", "null", "."], ["seg.mp4"], ["null", "."]),
        ("grid", ["seg.mp4", "null", "."], ["seg.mp4", "null", "."], []),
        ("separate", [".", "null"], [], [".", "null"]),
        (None, [], [], []),
    ],
)
def test_which_outputs_are_shared(
    layout: str | None, texts: list[str], shared: list[str], own: list[str]
) -> None:
    assert split_outputs(texts, layout) == (shared, own)


def test_separate_needs_directories() -> None:
    with pytest.raises(UsageError, match="--out DIR"):
        split_outputs(["seg.mp4"], "separate")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "seg.mp4", "--layout", "separate"], "--layout separate"),
        (["--labels-out", "ids.mkv"], "is a directory"),
        (["--out", "seg.mp4", "--keyframes", "3"], "--keyframes"),
        (["--out", "seg.mp4", "--out", "seg.mp4"], "same place"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_written(
    words: list[str],
    said: str,
    clips: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run("--source", clips[0], "--source", clips[1], *words) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def wait_for(condition: Callable[[], T], process: subprocess.Popen[str]) -> T:
    deadline_s = time.monotonic() + 120
    while not (value := condition()):
        assert process.poll() is None, "the run ended early"
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    return value


@needs_rtsp_server
def test_a_server_that_dies_for_good_stops_nobody_else(tmp_path: Path) -> None:
    """Two servers and a file: one server is killed, and its loss is final."""
    clip = make_video(tmp_path / "file.mp4", frames=25, size=(128, 72))
    lines, out, profile = tmp_path / "f.jsonl", tmp_path / "seg.mp4", tmp_path / "p.json"

    def counts() -> Counter[str]:
        text = lines.read_text() if lines.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        return Counter(json.loads(line)["source"] for line in whole)

    with rtsp_server() as (first, server), rtsp_server() as (second, _):
        process = subprocess.Popen(
            [
                *COMMAND,
                *("--source", f"rtsp://user:s3cret@127.0.0.1:{first}/live"),
                *("--source", f"rtsp://127.0.0.1:{second}/live"),
                *("--source", str(clip), "--out", str(out), "--jsonl", str(lines)),
                *("--profile", str(profile), "--timeout", "4", "--reconnect", "1"),
                "--no-progress",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        dying, living = f"127.0.0.1_{first}-live", f"127.0.0.1_{second}-live"
        try:
            wait_for(lambda: min(counts()[dying], counts()[living]) > 5, process)
            server.kill()
            before = counts()[living]
            wait_for(lambda: counts()[living] > before + 40, process)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, said
    assert "s3cret" not in said
    assert "Traceback" not in said
    assert f"1 of 3 sources failed: {dying}: " in said.strip().splitlines()[-1]
    report = json.loads(profile.read_text())
    ends = {stream["source"]: stream["end"] for stream in report["streams"]}
    assert ends["file"] == "end of input"
    assert ends[living] == "interrupted"
    assert ends[dying] in ("CONNECTION_FAILED", "TIMEOUT", "ENDED")
    assert counts()["file"] == 25
    times = video_times(out)
    assert len(times) > 20
    assert times == sorted(times)


@needs_rtsp_server
def test_a_server_that_is_not_there_yet_joins_later(tmp_path: Path) -> None:
    lines = tmp_path / "f.jsonl"
    with rtsp_server() as (port, _):
        pass
    process = subprocess.Popen(
        [
            *COMMAND,
            *("--source", f"rtsp://127.0.0.1:{port}/live"),
            *("--source", "lavfi:testsrc=size=64x64:rate=10,realtime", "--out", "null"),
            *("--jsonl", str(lines), "--no-progress", "--timeout", "4"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )

    def seen(source: str) -> bool:
        return lines.exists() and f'"source": "{source}"' in lines.read_text()

    try:
        wait_for(lambda: seen("testsrc"), process)
        assert not seen("live")
        with rtsp_server(port=port):
            wait_for(lambda: seen("live"), process)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
