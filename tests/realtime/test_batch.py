"""``--batch``: clips one after the other, the real command on real files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from rtseg.engines import registry
from rtseg.realtime.cli import main
from tests.media import make_images, make_video

FAST = ("--quality", "fast", "--warmup", "0", "--no-progress")


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    folder = tmp_path / "drives"
    folder.mkdir()
    make_video(folder / "drive10.mp4", 5)
    make_video(folder / "drive9.mkv", 4)
    (folder / "notes.csv").write_text("none")
    make_images(folder, 1)
    return folder


def test_a_folder_of_clips_with_one_engine(
    tmp_path: Path,
    drives: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = []
    real = registry.open_engine

    def counted(*arguments: object, **options: object) -> object:
        opened.append(1)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "open_engine", counted)
    out = tmp_path / "out"
    out.mkdir()
    typed = [str(drives), str(out), "--batch", "--jsonl", str(out / "{stem}.jsonl"), *FAST]
    assert main(typed) == 0
    said = capsys.readouterr().err
    assert said.index("clip 1 of 2") < said.index("drive9.mkv") < said.index("clip 2 of 2")
    assert "2 clips: 2 done, 0 skipped, 0 failed" in said
    assert len(opened) == 1
    assert sorted(file.name for file in out.iterdir()) == [
        "drive10.jsonl",
        "drive10_seg.mp4",
        "drive9.jsonl",
        "drive9_seg.mp4",
    ]
    assert frames_of(out / "drive10_seg.mp4") == 5
    assert len((out / "drive9.jsonl").read_text().splitlines()) == 4


def test_a_clip_that_fails_leaves_the_others_alone(
    tmp_path: Path, drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (drives / "broken.mp4").write_bytes(b"no video" * 100)
    out = str(tmp_path / "{stem}_seg.mp4")
    assert main([str(drives / "*.m*"), out, "--batch", *FAST]) == 1
    said = capsys.readouterr().err
    assert "rt-seg: error: NOT_A_VIDEO: " in said
    assert "3 clips: 2 done, 0 skipped, 1 failed (broken)" in said
    assert frames_of(tmp_path / "drive9_seg.mp4") == 4


def test_what_is_there_is_skipped_or_an_error(
    tmp_path: Path, drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drive9_seg.mp4").write_bytes(b"mine")
    typed = [str(drives), str(tmp_path / "{stem}_seg.mp4"), "--batch", "-q", *FAST]
    assert main(typed) == 1
    assert "EXISTS" in capsys.readouterr().err
    (tmp_path / "drive10_seg.mp4").unlink()
    assert main([*typed, "--skip-existing"]) == 0
    assert (tmp_path / "drive9_seg.mp4").read_bytes() == b"mine"
    assert frames_of(tmp_path / "drive10_seg.mp4") == 5


@pytest.mark.parametrize("out", ["{stem}_seg.mp4", ""])
def test_what_a_run_was_ended_in_is_made_anew(
    tmp_path: Path, drives: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    typed = ["--batch", "--skip-existing", "--no-progress", "--warmup", "0", "--quality", "fast"]
    run = "from rtseg.realtime.entry import command; command()"
    words = [sys.executable, "-c", run, str(drives), str(made / out), *typed]
    make_video(drives / "drive10.mp4", 3000)
    (drives / "drive9.mkv").rename(drives / "drive11.mkv")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as first:
        while not (made / "drive10_seg.mp4").exists():
            assert first.poll() is None
            time.sleep(0.01)
        first.kill()  # as a power loss would
    marks = [path.name for path in made.glob("*.unfinished")]
    assert marks == ["drive10_seg.mp4.unfinished" if out else "drive10.unfinished"]
    make_video(drives / "drive10.mp4", 5)
    assert main([str(drives), str(made / out), *typed]) == 0
    said = capsys.readouterr().err
    assert "anew, as an earlier run was ended within it: drive10" in said
    assert "2 clips: 2 done, 0 skipped" in said
    assert frames_of(made / "drive10_seg.mp4") == 5
    assert sorted(path.name for path in made.iterdir()) == ["drive10_seg.mp4", "drive11_seg.mp4"]
    assert main([str(drives), str(made / out), *typed]) == 0
    assert "2 clips: 0 done, 2 skipped" in capsys.readouterr().err


def test_no_mark_stays_where_nothing_was_written(
    tmp_path: Path, drives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (drives / "broken.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "drive9_seg.mp4").write_bytes(b"mine")
    typed = [str(drives), str(tmp_path / "{stem}_seg.mp4"), "--batch", *FAST]
    assert main(typed) == 1
    assert main([*typed, "--alpha", "7", "-y"]) == 2
    capsys.readouterr()
    assert not list(tmp_path.glob("*.unfinished"))
    (tmp_path / "drive9_seg.mp4.unfinished").write_text("")
    assert main(typed) == 1  # not asked to go on: nothing is replaced
    assert (tmp_path / "drive9_seg.mp4").read_bytes() == b"mine"
    assert (tmp_path / "drive9_seg.mp4.unfinished").exists()


def test_a_list_and_clips_of_the_same_name(tmp_path: Path, drives: Path) -> None:
    (tmp_path / "b").mkdir()
    shutil.copy(drives / "drive9.mkv", tmp_path / "b" / "drive9.mkv")
    listed = tmp_path / "clips.txt"
    listed.write_text(f"{drives / 'drive9.mkv'}\n{tmp_path / 'b'}\n{drives / 'drive9.mkv'}\n")
    lines = str(tmp_path / "{stem}.jsonl")
    assert main(["--source", str(listed), "--jsonl", lines, "--batch", "-q", *FAST]) == 0
    made = sorted(file.name for file in tmp_path.glob("*.jsonl"))
    assert made == ["b-drive9.jsonl", "drives-drive9.jsonl"]
    assert all(json.loads(line) for line in (tmp_path / made[0]).read_text().splitlines())


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["--out", "seg.mp4"], "--out of --batch is a name with {stem} in it"),
        (["--out", "-"], "--out of --batch is a name with {stem} in it"),
        (["--jsonl", "a.jsonl", "--out", "null"], "--jsonl of --batch is a name with {stem}"),
        (["--labels-out", "ids.mkv"], "--labels-out of --batch is a name with {stem} in it"),
        (["--source", "testsrc", "--out", "null"], "--batch takes video files"),
        (["--alpha", "7", "--out", "null"], "alpha"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    drives: Path, typed: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--source", str(drives), *typed, "--batch", *FAST]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert len(said.splitlines()) == 1


def test_no_clip_is_written_over_nor_deleted_by_a_ring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "a_seg_000", "a_seg_001"):
        make_video(tmp_path / f"{name}.mp4", 60)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    ring = ("--segment", "1s", "--segment-files", "2", "-y", "-q", *FAST)
    main([str(tmp_path), str(tmp_path / "{stem}_seg.mp4"), "--batch", *ring])
    assert {file: file.read_bytes() for file in before} == before
    clips = [str(tmp_path / "a.mp4"), str(tmp_path / "a_seg_000.mp4")]
    typed = [word for clip in clips for word in ("--source", clip)]
    assert main([*typed, "--out", str(tmp_path / "{stem}_seg_000.mp4"), "--batch", "-y", *FAST])
    assert "SAME_FILE" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in before} == before


def test_a_folder_without_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "null", "--batch", *FAST]) == 1
    assert "no video file there" in capsys.readouterr().err


def test_skip_existing_needs_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["testsrc", "null", "--skip-existing", *FAST]) == 2
    assert "--skip-existing is for --batch" in capsys.readouterr().err
