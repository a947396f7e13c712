"""Pictures through the whole loop: their names come out again, and one makes one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.realtime import Segmenter
from rtseg.realtime.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "frames"
    made.mkdir()
    for number, name in enumerate(("ulm_7.png", "bern.jpg", "köln 2.png")):
        cv2.imwrite(str(made / name), np.full((48, 64, 3), 40 * number, np.uint8))
    return made


def test_results_have_the_names_of_the_pictures(folder: Path, tmp_path: Path) -> None:
    ids, log = tmp_path / "ids", tmp_path / "a.jsonl"
    assert main(["--source", str(folder), "--labels-out", str(ids), "--jsonl", str(log), "-q"]) == 0
    assert {path.name for path in ids.iterdir()} == {
        f"{path.stem}_labelTrainIds.png" for path in folder.iterdir()
    }
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [Path(line["file"]) for line in lines] == sorted(folder.iterdir())
    assert not any("captured_at" in line for line in lines)
    with Segmenter() as segment:
        assert [result.path for result in segment.stream(folder)] == sorted(folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want names that are UTF-8")
def test_a_name_that_is_no_utf8_comes_back(tmp_path: Path) -> None:
    picture = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(picture, "wb") as file:
        file.write(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    log = tmp_path / "a.jsonl"
    assert main(["--source", os.fsdecode(picture), "--jsonl", str(log), "-q"]) == 0
    assert os.fsencode(json.loads(log.read_text())["file"]) == picture


def test_one_picture_makes_one(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    photo, out = folder / "bern.jpg", tmp_path / "out.png"
    assert main([str(photo), str(out), "-q"]) == 0
    assert cv2.imread(str(out)).shape == (48, 64, 3)
    assert main([str(photo), str(out), "-q"]) == 2
    assert "EXISTS" in capfd.readouterr().err
    assert main([str(photo), str(photo), "-q", "-y"]) == 2
    assert "SAME_FILE" in capfd.readouterr().err
    alone = tmp_path / "alone"
    alone.mkdir()
    photo.rename(alone / "a.jpg")
    assert main([str(alone), str(out), "-q", "-y"]) == 0
    assert main([str(alone), str(tmp_path / "absent" / "out.png"), "-q", "-y"]) == 1
    assert "NOT_FOUND" in capfd.readouterr().err


@pytest.mark.parametrize("source", ["frames", "testsrc", "twice"])
def test_more_than_one_picture_needs_a_number(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture, source: str
) -> None:
    words = {
        "frames": ["--source", str(folder)],
        "testsrc": ["--source", "testsrc"],
        "twice": ["--source", str(folder / "bern.jpg"), "--source", str(folder / "ulm_7.png")],
    }[source]
    assert main([*words, "--out", str(tmp_path / "out.png"), "-q"]) == 2
    assert "out_%06d.png" in capfd.readouterr().err
    assert not (tmp_path / "out.png").exists()
