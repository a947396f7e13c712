"""The installed command on real and made video: what comes out plays and is complete."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.cli import main
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.null import NullSink
from tests.data import needs_shared_data, shared_data
from tests.media import make_video


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def command(*arguments: str | Path) -> subprocess.Popen[str]:
    code = "from rtseg.realtime.cli import command; command()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *(str(argument) for argument in arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )


def video_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("rt-seg: error:")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    return lines[0]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "drive.mp4", frames=24, size=(320, 180), audio=True)


def test_label_maps_of_mixed_pictures_lie_on_their_pictures(tmp_path: Path) -> None:
    sizes = [(320, 180), (180, 320), (64, 64)]
    for number, (width, height) in enumerate(sizes):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((height, width, 3), 90, np.uint8))
    ids = tmp_path / "ids"
    assert run("--source", tmp_path / "*.png", "--labels-out", ids, "-q") == 0
    shapes = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in sorted(ids.iterdir())]
    assert shapes == [(height, width) for width, height in sizes]


@pytest.mark.parametrize("view", ["overlay", "mask", "side-by-side"])
def test_pictures_of_mixed_sizes_keep_theirs_in_pictures(tmp_path: Path, view: str) -> None:
    """In a video they cannot: there all get the first one's size."""
    sizes = [(320, 180), (180, 320), (64, 64), (321, 181)]
    for number, (width, height) in enumerate(sizes):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((height, width, 3), 90, np.uint8))
    typed = ["--source", tmp_path / "?.png", "--view", view, "-q"]
    assert run(*typed, "--out", tmp_path / "seg_%d.png") == 0
    twice = 2 if view == "side-by-side" else 1
    for number, (width, height) in enumerate(sizes):
        picture = cv2.imread(str(tmp_path / f"seg_{number}.png"))
        # Pictures are even: 4:2:0 has a colour for each four pixels.
        assert picture.shape[:2] == (height + height % 2, twice * (width + width % 2))
    both = [*typed, "--out", tmp_path / "seg.mp4", "--out", tmp_path / "two_%d.png"]
    assert run(*both) == 0
    shapes = {cv2.imread(str(path)).shape[:2] for path in tmp_path.glob("two_*.png")}
    assert shapes == {(180, twice * 320)}


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_of_the_process_is_no_obstacle(
    clip: Path, tmp_path: Path, closed: int
) -> None:
    """As some supervisors start their children."""
    out = tmp_path / "seg.mp4"
    code = "from rtseg.realtime.cli import command; command()"
    typed = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run([*typed, clip, out], stdin=subprocess.DEVNULL, check=False, timeout=120)
    assert done.returncode == 0
    assert len(video_times(out)) == 24


def test_a_file_becomes_a_file_with_all_frames_times_and_sound(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "seg.mp4"
    assert run("--source", clip, "--out", out, "-q") == 0
    assert video_times(out) == pytest.approx(video_times(clip), abs=1e-6)
    with av.open(str(clip)) as before, av.open(str(out)) as after:
        assert len(after.streams.audio) == len(before.streams.audio) == 1
        packets = [
            [bytes(packet) for packet in container.demux(audio=0) if packet.size]
            for container in (before, after)
        ]
        # The encoder's priming, which lies before time 0 and is never heard, may be left out.
        assert packets[0][-len(packets[1]) :] == packets[1]
        assert len(packets[0]) - len(packets[1]) <= 1
        video = after.streams.video[0].codec_context
        assert (video.name, video.pix_fmt) == ("h264", "yuv420p")


def test_positional_form_and_directory(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    assert run(clip, folder, "-q", "--max-frames", "3") == 0
    assert len(video_times(folder / "drive_seg.mp4")) == 3


def test_segments_go_into_a_folder_that_is_made_for_them(clip: Path, tmp_path: Path) -> None:
    assert run(clip, f"{tmp_path}/new/", "-q", "--segment", "1s", "--max-frames", "3") == 0
    assert len(video_times(tmp_path / "new" / "drive_seg_000.mp4")) == 3


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (["--model", "no-such"], "BAD_OPTION"),
        (["--device", "toaster"], "BAD_OPTION"),
        (["--backend", "no-such"], "USAGE"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    clip: Path, typed: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clip, "null", *typed) == 2
    assert error_line(capsys).startswith(f"rt-seg: error: {reason}: ")


def test_labels_jsonl_and_profile_agree(clip: Path, tmp_path: Path) -> None:
    ids, log, profile = tmp_path / "ids", tmp_path / "frames.jsonl", tmp_path / "profile.json"
    assert (
        run(clip, "--labels-out", ids, "--jsonl", log, "--profile", profile, "--out", "null", "-q")
        == 0
    )
    images = sorted(ids.glob("*_labelTrainIds.png"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    report = json.loads(profile.read_text())
    assert len(images) == len(lines) == report["frames_out"] == report["frames_in"] == 24
    labels = cv2.imread(str(images[5]), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint8
    assert labels.max() < len(CITYSCAPES)
    text = json.dumps(lines[5])
    shares = next(
        value
        for value in lines[5].values()
        if isinstance(value, dict) and value and set(value) <= set(CITYSCAPES.names)
    )
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-3), text
    assert report["stages"]["infer"]["n"] == 24
    assert report["latency"]["p50_ms"] > 0
    assert report["throughput_fps"] > 0
    assert report["network_fps"] > 0
    assert report["environment"]["backend"] in ("openvino", "onnxruntime")


def test_the_closing_report_names_every_stage(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clip, "--out", "null", "--max-frames", "4", "--no-progress") == 0
    said = capsys.readouterr().err
    for word in ("decode", "preprocess", "infer", "render", "encode", "end to end", "network"):
        assert word in said
    assert "4 in, 4 out, 0 dropped" in said


@pytest.mark.parametrize("sources", [1, 2])
def test_a_run_that_fails_does_not_end_with_its_input(
    clip: Path, tmp_path: Path, sources: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, frame: object, labels: object) -> None:
        raise RuntimeError("no paint")

    monkeypatch.setattr("rtseg.realtime.overlay.Renderer.render", broken)
    words = [word for _ in range(sources) for word in ("--source", clip)]
    assert run(*words, "--out", tmp_path / "seg.mp4", "--profile", tmp_path / "p.json") == 1
    assert json.loads((tmp_path / "p.json").read_text())["end"] == "INTERNAL"


@pytest.mark.parametrize(
    ("words", "said"), [([], "end of input"), (["--max-frames", "5"], "--max-frames reached")]
)
def test_a_source_is_said_to_have_ended_while_outputs_finish(
    clip: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profilers: list[Profiler] = []
    heard: list[str | None] = []

    def made() -> Profiler:
        profilers.append(Profiler())
        return profilers[0]

    def close(self: NullSink) -> None:
        deadline_s = time.monotonic() + 10
        while profilers[0].ended is None and time.monotonic() < deadline_s:
            time.sleep(0.02)
        heard.append(profilers[0].ended)

    monkeypatch.setattr("rtseg.realtime.session.Profiler", made)
    monkeypatch.setattr(NullSink, "close", close)
    assert run(clip, "null", *words) == 0
    assert heard == [said]


def test_start_duration_and_stride(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.mp4"
    assert run(clip, out, "--start", "0.2", "--duration", "0.4", "-q", "--no-audio") == 0
    assert len(video_times(out)) == pytest.approx(0.4 * 25, abs=1)
    assert run(clip, out, "--stride", "4", "-y", "-q") == 0
    assert len(video_times(out)) == 6


def test_json_log_lines_are_json(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(clip, "--out", "null", "--max-frames", "2", "--log-format", "json") == 0
    assert run("no-such.mp4", "--out", "null", "--log-format", "json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0]["report"]["frames_out"] == 2
    assert lines[-1]["reason"] == "NOT_FOUND"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_a_file_that_plays(number: int, code: int, tmp_path: Path) -> None:
    out, log = tmp_path / "seg.mp4", tmp_path / "frames.jsonl"
    process = command(
        "--source", "testsrc", "--out", out, "--jsonl", log, "--no-progress", "--out", "null"
    )
    deadline_s = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 10):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "interrupted" in said
    assert "Traceback" not in said
    assert len(video_times(out)) >= 10
    assert len(video_times(out)) == log.read_text().count("\n")


class TestBadInput:
    """One line that names the cause and what is allowed, and the right exit code."""

    def test_missing_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("--source", "no-such.mp4", "--out", "null") == 1
        assert "NOT_FOUND" in error_line(capsys)

    def test_not_a_video(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = tmp_path / "notes.mp4"
        text.write_text("not a video " * 100)
        assert run("--source", text, "--out", "null") == 1
        assert "NOT_A_VIDEO" in error_line(capsys)

    def test_truncated_video_gives_what_it_has(self, clip: Path, tmp_path: Path) -> None:
        whole = make_video(tmp_path / "whole.mkv", frames=60, size=(320, 180))
        cut = tmp_path / "cut.mkv"
        data = whole.read_bytes()
        cut.write_bytes(data[: len(data) // 2])
        out = tmp_path / "seg.mp4"
        assert run(cut, out, "-q") == 0
        assert 0 < len(video_times(out)) < 60

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
        clip.chmod(0)
        assert run("--source", clip, "--out", "null") == 1
        assert "PERMISSION_DENIED" in error_line(capsys)

    def test_unknown_scheme(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("--source", "gopher://host/x", "--out", "null") == 2
        assert "rtsp://" in error_line(capsys)

    def test_absent_camera(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("--source", "camera97", "--out", "null") == 1
        assert "NOT_FOUND" in error_line(capsys)

    def test_absent_output_folder(
        self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(clip, tmp_path / "none" / "seg.mp4") in (1, 2)
        assert "none" in error_line(capsys)

    def test_existing_output_is_kept(
        self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "seg.mp4"
        out.write_bytes(b"precious")
        assert run(clip, out) == 2
        assert "--overwrite" in error_line(capsys)
        assert out.read_bytes() == b"precious"

    def test_output_over_the_source(self, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = clip.read_bytes()
        assert run(clip, clip, "-y") == 2
        error_line(capsys)
        assert clip.read_bytes() == before

    def test_same_output_twice(
        self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "seg.mp4"
        assert run("--source", clip, "--out", out, "--out", out) == 2
        error_line(capsys)

    def test_unknown_class(self, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(clip, "--out", "null", "--classes", "road,persn") == 2
        assert "person" in error_line(capsys)

    def test_unknown_model(self, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(clip, "--out", "null", "--model", "espnet-litte") == 2
        assert "espnet-lite" in error_line(capsys)

    def test_model_beside_an_engine(self, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
        typed = ("--engine", "own.onnx", "--model", "espnet-lite")
        assert run(clip, "--out", "null", *typed) == 2
        assert "allowed is one of them" in error_line(capsys)

    def test_damaged_engine(
        self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(b"\x08\x07onnx?" * 50)
        out = tmp_path / "seg.mp4"
        assert run(clip, out, "--engine", broken) == 1
        assert "ENGINE" in error_line(capsys)
        assert not out.exists()

    def test_no_display_and_no_output(
        self, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert run(clip) == 2
        assert "--out" in error_line(capsys)


@needs_shared_data
class TestRealVideo:
    def test_a_city_street_looks_like_one(self, tmp_path: Path) -> None:
        """Road below, sky or buildings above: where a person sees them."""
        clip = shared_data("videos", "seattlestreet1.mp4")
        ids = tmp_path / "ids"
        assert run(clip, "--labels-out", ids, "--stride", "100", "--max-frames", "10", "-q") == 0
        index = CITYSCAPES.index
        labels = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(ids.glob("*.png"))]
        stack = np.stack(labels)
        height, width = stack.shape[1:]
        low = stack[:, height * 3 // 4 : height * 9 // 10, width // 3 : width * 2 // 3]
        assert (low == index("road")).mean() > 0.6
        high = stack[:, : height // 4]
        above = [index(name) for name in ("building", "sky", "vegetation")]
        assert np.isin(high, above).mean() > 0.7
        assert (high == index("road")).mean() < 0.02
        assert (stack == index("car")).mean() > 0.01


def test_a_recording_in_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = make_video(tmp_path / "drive.mp4", frames=25, fps=10, size=(320, 180), audio=True)
    profile = tmp_path / "profile.json"
    out = tmp_path / "out.mp4"
    assert run(clip, out, "--segment", "1s", "--segment-files", "2", "--profile", profile) == 0
    assert sorted(path.name for path in tmp_path.glob("out_*")) == ["out_001.mp4", "out_002.mp4"]
    assert video_times(tmp_path / "out_001.mp4") == pytest.approx([n / 10 for n in range(10)])
    assert video_times(tmp_path / "out_002.mp4") == pytest.approx([n / 10 for n in range(5)])
    (index,) = json.loads(profile.read_text())["outputs"]
    assert [entry["start_s"] for entry in index["details"]["segments"]] == [1.0, 2.0]
    said = capsys.readouterr().err
    assert "3 segments of 1 s; 1 oldest files deleted" in said
    assert "out_002.mp4  2.000 s + 0.500 s" in said
    for wrong in (["--segment-files", "3"], ["--segment", "1s", "--segment-files", "1"]):
        assert run(clip, out, *wrong) == 2
    assert run(clip, "--out", "null", "--segment", "1s") == 2
