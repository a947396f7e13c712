"""Traces: valid events, threads as tracks, stages of a frame in order, and an end."""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from rtseg.realtime.cli import main
from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import now_ns
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.profile import Profiler
from rtseg.realtime.throttle import FlowOptions
from rtseg.realtime.trace import TraceFile
from tests.media import make_video
from tests.realtime.parts import BrightnessEngine, GraySource, ListSink

Event = dict[str, Any]
REQUIRED = {
    "X": {"name", "pid", "tid", "ts", "dur", "args"},
    "b": {"name", "cat", "id", "pid", "tid", "ts", "args"},
    "e": {"name", "cat", "id", "pid", "tid", "ts"},
    "i": {"name", "pid", "tid", "ts", "s"},
    "M": {"name", "pid", "args"},
}


def events_of(path: Path) -> list[Event]:
    """Return the events of a trace after a look at each one's form."""
    events: list[Event] = json.loads(path.read_text())
    for event in events:
        assert REQUIRED[event["ph"]] <= set(event), event
        if "ts" in event:
            assert isinstance(event["ts"], float)
    return events


def spans_of(events: list[Event]) -> dict[int, list[Event]]:
    spans = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            spans[event["tid"]].append(event)
    return spans


def track_names(events: list[Event]) -> dict[str, int]:
    return {e["args"]["name"]: e["tid"] for e in events if e["name"] == "thread_name"}


def test_a_run_leaves_every_stage_of_every_frame(tmp_path: Path) -> None:
    clip, trace = make_video(tmp_path / "drive.mp4", frames=12), tmp_path / "trace.json"
    words = ["--source", clip, "--out", tmp_path / "seg.mp4", "--trace", trace, "-q"]
    assert main([str(word) for word in words]) == 0
    events = events_of(trace)
    assert {name.partition("-")[0] for name in track_names(events)} == {
        "capture",
        "infer",
        "collect",
        "render",
        "sink",
    }

    for spans in spans_of(events).values():  # in one thread nothing overlaps
        for before, after in itertools.pairwise(spans):
            assert before["ts"] + before["dur"] <= after["ts"] + 1e-3

    frames: dict[int, dict[str, Event]] = defaultdict(dict)
    for event in itertools.chain.from_iterable(spans_of(events).values()):
        frames[event["args"]["frame"]][event["name"]] = event
    assert sorted(frames) == list(range(12))
    order = ["decode", "preprocess", "submit", "render", "write"]
    for stages in frames.values():
        for earlier, later in itertools.pairwise(order):
            end_us = stages[earlier]["ts"] + stages[earlier]["dur"]
            assert end_us <= stages[later]["ts"] + 1e-3, (earlier, later)

    lives = defaultdict(list)
    for event in events:
        if event["ph"] in "be":
            lives[event["name"], event["id"]].append(event)
    for name in ("frame", "in the engine"):
        for index in range(12):
            begin, end = lives[name, index]
            assert (begin["ph"], end["ph"]) == ("b", "e")
            assert begin["ts"] <= end["ts"]
    assert lives["in the engine", 3][0]["args"]["infer_ms"] > 0


def test_drops_are_in_the_trace(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path / "trace.json")
    profiler = Profiler(trace=trace)
    Pipeline(
        GraySource(10),
        BrightnessEngine(),
        None,
        [ListSink()],
        flow=FlowOptions(stride=2),
        profiler=profiler,
    ).run()
    profiler.stall()
    profiler.reconnect()
    trace.close()
    trace.close()
    instants = [e["name"] for e in events_of(tmp_path / "trace.json") if e["ph"] == "i"]
    assert instants == ["dropped: stride"] * 5 + ["stall", "reconnect"]


def test_threads_write_one_file(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path / "trace.json")

    def work() -> None:
        for frame in range(500):
            begun_ns = now_ns()
            trace.span("work", begun_ns, now_ns(), frame)

    threads = [threading.Thread(target=work, name=f"rtseg-worker {n}") for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    events = events_of(tmp_path / "trace.json")
    assert set(track_names(events)) == {f"worker {n}" for n in range(4)}
    assert [len(spans) for spans in spans_of(events).values()] == [500] * 4


def test_a_full_trace_says_so_and_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trace.json"
    trace = TraceFile(path, most_events=50)
    for frame in range(1000):
        trace.span("work", now_ns(), now_ns(), frame)
    trace.close()
    events = events_of(path)
    assert len(events) == 51
    assert events[-1]["name"] == "trace full"
    assert caplog.text.count("the trace is full") == 1


def test_a_full_disk_ends_the_trace_not_the_run(caplog: pytest.LogCaptureFixture) -> None:
    trace = TraceFile(Path("/dev/full"))
    for frame in range(20_000):
        trace.span("work", now_ns(), now_ns(), frame)
    with pytest.raises(SinkError, match="ended early: No space left on device") as caught:
        trace.close()
    assert caught.value.reason == "NO_SPACE"
    assert caplog.text.count("the trace ends here (No space left on device)") == 1
    trace.close()


def test_a_trace_on_a_full_disk_is_whole_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    trace = TraceFile(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    try:
        for frame in range(20_000):
            trace.span("work", now_ns(), now_ns(), frame)
        with pytest.raises(SinkError) as caught:
            trace.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.reason == "NO_SPACE"
    assert 1_400_000 < path.stat().st_size <= 1_500_000
    names = [event["name"] for event in json.loads(path.read_text())]
    assert names.count("work") > 5000


def test_an_error_on_its_way_is_not_hidden_by_the_trace() -> None:
    def run() -> None:
        with contextlib.closing(TraceFile(Path("/dev/full"))) as trace:
            for frame in range(20_000):
                trace.span("work", now_ns(), now_ns(), frame)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        run()


def test_a_trace_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError) as caught:
        TraceFile(tmp_path / "absent" / "trace.json")
    assert caught.value.reason == "NOT_FOUND"


@pytest.mark.parametrize("option", ["--trace", "--profile"])
def test_a_name_that_is_no_json_file_is_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_video(tmp_path / "drive.mp4", frames=2)
    before = clip.read_bytes()
    assert main(["--source", "testsrc", "--out", "null", option, str(clip)]) == 2
    assert "FILE.json" in capsys.readouterr().err
    assert clip.read_bytes() == before
