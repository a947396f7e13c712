"""The closing report adds nothing that was not measured."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from rtseg.engines.engine import EngineProfile
from rtseg.engines.spec import EngineSpec
from rtseg.realtime.cli import main
from rtseg.realtime.errors import SinkError
from rtseg.realtime.profile import STAGES, Profiler
from rtseg.realtime.report import RunReport, build_report, check_report_path, write_report
from rtseg.realtime.wallclock import utc, utc_text
from tests.realtime.parts import GraySource
from tests.realtime.sources.rights import unprivileged


def report_of(
    frames: int, *, parallel: int = 2, in_flight: int = 3, lane_ms: float = 40.0
) -> RunReport:
    profiler = Profiler()
    for index in range(frames):
        begin_ns = index * 20_000_000
        profiler.frame_in(begin_ns)
        profiler.inference(lane_ms)
        profiler.frame_out(
            index=index,
            pts_s=index / 30,
            captured_ns=begin_ns,
            presented_ns=begin_ns + 80_000_000,
            stages_ms={"infer": 40.0, "render": 1.0},
        )
    profiler.drop("newer_frame", 3)
    engine = EngineProfile("openvino", "cpu", "int8", "1", 3, 2, parallel=parallel)
    return build_report(
        profiler,
        engine,
        EngineSpec("net", 512, 512),
        GraySource(1).info,
        end="end of input",
        in_flight=in_flight,
    )


def test_a_network_is_as_fast_as_its_places_are_free_again() -> None:
    """Upsampling beside the next inference does not hold it up."""
    report = report_of(10, lane_ms=32.0)
    assert report.network_ms == pytest.approx(40, rel=0.05)
    assert report.network_fps == pytest.approx(62.5)


def test_cores_are_those_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    monkeypatch.setattr("rtseg.engines.threads.CGROUP_LIMIT", quota)
    assert report_of(1).environment["cores"] == 1


def test_cores_busy_are_those_between_the_first_frame_and_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What starting and finishing cost made more cores busy than there are."""
    clock = iter([100.0, 101.0, 102.0])  # first frame in, two frames out
    monkeypatch.setattr("rtseg.realtime.profile.cpu_seconds", lambda: next(clock))
    monkeypatch.setattr("rtseg.realtime.profile.now_ns", lambda: 1_000_000_000)
    report = report_of(2)
    assert report.elapsed_s == 1.0
    assert report.cores_busy == 2.0
    assert report.cpu_ms_per_frame == 1000.0


@pytest.mark.parametrize(("parallel", "in_flight", "fps"), [(2, 3, 50), (1, 3, 25), (2, 1, 25)])
def test_what_waits_in_the_queue_does_not_make_the_network_faster(
    parallel: int, in_flight: int, fps: float
) -> None:
    """Three in flight of which two compute are not three times as fast as one."""
    report = report_of(10, parallel=parallel, in_flight=in_flight)
    assert report.network_fps == pytest.approx(fps)


def test_the_text_has_a_row_for_every_stage_and_the_drops() -> None:
    text = report_of(10).to_text()
    for stage in (*STAGES, "end to end"):
        assert any(line.startswith(stage) for line in text.splitlines())
    assert "3 dropped (3 newer_frame)" in text
    assert "2 at once: 50.0 frames/s at most" in text


def test_the_report_says_when_the_run_began() -> None:
    report = report_of(10)
    assert report.begun_at == utc_text(utc(0))
    assert json.loads(report.to_json())["begun_at"] == report.begun_at
    assert f"begun       {report.begun_at}" in report.to_text().splitlines()


def test_a_run_without_frames_divides_by_nothing() -> None:
    report = report_of(0)
    assert report.begun_at is None
    assert (report.throughput_fps, report.network_fps, report.cpu_ms_per_frame) == (0, 0, 0)
    assert json.loads(report.to_json())["latency"]["n"] == 0
    assert report.to_text()


def test_a_profile_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    for place, reason in (("absent/p.json", "NOT_FOUND"), ("folder.json", "NOT_WRITABLE")):
        with pytest.raises(SinkError) as caught:
            check_report_path(tmp_path / place)
        assert caught.value.reason == reason
    check_report_path(tmp_path / "p.json")
    check_report_path(Path("p.json"))
    assert not (tmp_path / "p.json").exists()
    out = tmp_path / "seg.mp4"
    assert main(["testsrc", str(out), "--profile", str(tmp_path / "absent" / "p.json")]) == 1
    assert not out.exists()


def test_a_folder_that_may_not_be_written_into_is_said_before_the_run() -> None:
    """A report takes the place of a file in it, and for that a writable file is not enough."""
    with tempfile.TemporaryDirectory() as folder:
        locked, link = Path(folder) / "locked", Path(folder) / "link.json"
        locked.mkdir()
        (locked / "p.json").touch()
        (locked / "p.json").chmod(0o666)
        link.symlink_to(locked / "p.json")
        Path(folder).chmod(0o777)
        locked.chmod(0o555)
        with unprivileged():
            for path in (locked / "p.json", link):
                with pytest.raises(SinkError, match="no permission") as caught:
                    check_report_path(path)
                assert caught.value.reason == "NOT_WRITABLE"
    check_report_path(Path("/dev/stdout"))


def test_a_name_that_is_no_utf8_is_written_escaped(tmp_path: Path) -> None:
    write_report("out_\udcff.mp4", tmp_path / "p.html")
    assert (tmp_path / "p.html").read_text() == r"out_\udcff.mp4"
    assert [path.name for path in tmp_path.iterdir()] == ["p.html"]


def test_a_link_into_another_file_system_is_followed(tmp_path: Path) -> None:
    """A file is not moved from one file system into another; /dev/shm often is one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as far:
        (tmp_path / "p.json").symlink_to(Path(far) / "real.json")
        for text in ("first", "second"):
            write_report(text, tmp_path / "p.json")
            assert (Path(far) / "real.json").read_text() == text
        assert [path.name for path in Path(far).iterdir()] == ["real.json"]
        assert (tmp_path / "p.json").is_symlink()
