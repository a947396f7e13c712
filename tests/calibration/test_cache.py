"""The calibration cache: whole or not at all, and only for what it was made for."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from rtseg.calibration.cache import CalibrationCache, write_atomically
from rtseg.calibration.errors import CalibrationError
from rtseg.engines.wholefile import partial_name

CACHE = CalibrationCache(
    network_sha256="a" * 64,
    images_sha256="b" * 64,
    images=4,
    seed=0,
    thresholds={"mse": {"x": 1.5, "y": 0.25}, "percentile:99.99": {"x": 2.0, "y": 0.5}},
)


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    CACHE.save(path)
    assert CalibrationCache.load(path) == CACHE
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    ("change", "method", "tensors", "line"),
    [
        ({"network_sha256": "c" * 64}, "mse", ["x"], "made for another network: aaaaaaaaaaaa"),
        ({"images_sha256": "c" * 64}, "mse", ["x"], "another calibration images"),
        ({}, "entropy", ["x"], "no thresholds of entropy; it has mse, percentile:99.99"),
        ({}, "mse", ["x", "z"], "no threshold for 1 tensors, such as 'z'"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, str], method: str, tensors: list[str], line: str
) -> None:
    wanted = replace(CACHE, **change)  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match=line) as caught:
        CACHE.check(wanted, method, tensors)
    assert caught.value.reason == "CACHE_MISMATCH"
    CACHE.check(CACHE, "mse", ["x", "y"])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 1, "thresholds": {"mse": {"x": -1}}}',
        '{"format": 1, "thresholds": {"mse": {"x": "wide"}}}',
        '{"format": 1, "thresholds": {"mse": {"x": NaN}}}',
        '{"format": 1, "thresholds": [1]}',
    ],
)
def test_a_damaged_cache_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(CalibrationError, match=r"calibration\.json is damaged") as caught:
        CalibrationCache.load(path)
    assert caught.value.reason == "CACHE_DAMAGED"
    assert "\n" not in str(caught.value)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    CACHE.save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(CalibrationError, match="has format 2; this version reads 1") as caught:
        CalibrationCache.load(path)
    assert caught.value.reason == "CACHE_MISMATCH"


def test_absent_cache_and_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="No such file") as caught:
        CalibrationCache.load(tmp_path / "none.json")
    assert caught.value.reason == "NOT_FOUND"
    with pytest.raises(CalibrationError, match="cannot write") as caught:
        CACHE.save(tmp_path / "absent" / "c.json")
    assert caught.value.reason == "NOT_FOUND"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists() or not stat.S_ISCHR(full.stat().st_mode):
        pytest.skip("needs /dev/full")
    path = tmp_path / "old.json"
    path.write_bytes(b"old")
    partial_name(path).symlink_to(full)
    with pytest.raises(CalibrationError, match="No space left") as caught:
        write_atomically(path, b"x" * 100_000)
    assert caught.value.reason == "NO_SPACE"
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interruption_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    path = tmp_path / "old.json"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
