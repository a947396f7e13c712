from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from rtseg.tools.rt_seg_engine import main

DAY_S = 86_400


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rt-seg"


def fill(folder: Path, sizes: list[int], unused_days: float) -> None:
    folder.mkdir(parents=True)
    moment_s = time.time() - unused_days * DAY_S
    for number, size in enumerate(sizes):
        file = folder / f"{number}.blob"
        file.write_bytes(bytes(size))
        os.utime(file, (moment_s, moment_s))


def shown(capsys: pytest.CaptureFixture[str], *typed: str) -> dict[str, object]:
    assert main(["cache", "--json", *typed]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_it_says_what_is_kept_and_for_how_long(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(root / "openvino-1", [1000, 500], unused_days=40)
    fill(root / "engines", [4_000_000], unused_days=2)
    found = shown(capsys)
    assert found["parts"] == [
        {"name": "engines", "files": 1, "size_bytes": 4_000_000, "unused_days": 2.0},
        {"name": "openvino-1", "files": 2, "size_bytes": 1500, "unused_days": 40.0},
    ]
    assert main(["cache"]) == 0
    said = capsys.readouterr().out
    assert f"4.0 MB in {root}" in said
    assert len(list(root.iterdir())) == 2


def test_what_is_not_used_is_deleted_and_the_rest_stays(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(root / "openvino-1", [1000], unused_days=40)
    fill(root / "engines", [10], unused_days=2)
    (tmp_path / "mine").mkdir()
    (root / "link").symlink_to(tmp_path / "mine")
    assert len(shown(capsys, "--clear", "--unused", "30")["parts"]) == 1  # type: ignore[arg-type]
    assert sorted(path.name for path in root.iterdir()) == ["engines", "link"]
    shown(capsys, "--clear")
    assert sorted(path.name for path in root.iterdir()) == ["link"]
    assert (tmp_path / "mine").is_dir()


def test_no_cache_is_an_empty_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--clear")["parts"] == []
    assert not root.exists()


@pytest.mark.parametrize("typed", [["--unused", "3"], ["--clear", "--unused", "soon"]])
def test_what_makes_no_sense(
    root: Path, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", *typed]) == 2
    assert "Received: " in capsys.readouterr().err


def test_warnings_begin_with_the_commands_name(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.engines.networks import TinyNet

    assert main(["info", str(TinyNet().save(tmp_path / "net.onnx"))]) == 0
    assert "rt-seg-engine: warning: net.onnx does not say everything" in capsys.readouterr().err
