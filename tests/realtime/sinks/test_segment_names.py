from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sinks.segment_names import SegmentNames

MOMENT = time.strptime("2026-11-22 14:05:09", "%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("seg.mp4", "seg_007.mp4"),
        ("seg%d.mp4", "seg7.mp4"),
        ("seg_%05d.mkv", "seg_00007.mkv"),
        ("%Y%m%d-%H%M%S.mp4", "20261122-140509.mp4"),
        ("cam_%Y-%m-%d_%03d.mov", "cam_2026-11-22_007.mov"),
        ("100%%.mp4", "100%_007.mp4"),
        ("a.b.mp4", "a.b_007.mp4"),
    ],
)
def test_names(typed, name):
    assert SegmentNames(Path("x") / typed).name(7, MOMENT) == name


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("%Q.mp4", "no such pattern"),
        ("50%.mp4", "no such pattern"),
        ("%d_%d.mp4", "one number"),
        ("%03d_%02d.mp4", "one number"),
        ("%Y/seg.mp4", "not in its directory"),
    ],
)
def test_what_is_no_pattern(typed, says):
    with pytest.raises(UsageError, match=says) as caught:
        SegmentNames(Path(typed))
    assert "Received" in str(caught.value)


@given(
    stem=st.text("ab_-. (+[\\^$é", max_size=8),
    codes=st.lists(
        st.sampled_from(["%03d", "%3d", "%Y", "%H", "%S", "%j", "%%"]), max_size=3, unique=True
    ).filter(lambda codes: not {"%03d", "%3d"} <= set(codes)),
    number=st.integers(0, 10**6),
)
def test_every_name_that_is_made_is_found_again(tmp_path_factory, stem, codes, number):
    folder = tmp_path_factory.mktemp("names")
    names = SegmentNames(folder / f"x{stem}{'-'.join(codes)}.mp4")
    taken, path = names.free(number, MOMENT)
    assert taken == number
    path.touch()
    assert names.existing() == [path]
    again, other = names.free(number, MOMENT)
    assert other != path
    other.touch()
    assert sorted(names.existing()) == sorted([path, other])
    if {"%03d", "%3d"} & set(codes) or not set(codes) - {"%%"}:
        assert again == number + 1
        assert names.first_number() == number + 2


@pytest.mark.parametrize("zone", ["UTC0", "<-03>3", "<+0545>-5:45", "CET-1"])
def test_time_zones_with_and_without_a_name(tmp_path, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        names = SegmentNames(tmp_path / "%H%M%S_%Z.mp4")
        _, path = names.free(0)
        path.touch()
        assert names.existing() == [path]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_only_own_files_are_found(tmp_path):
    for name in ("seg_000.mp4", "seg_12.mp4", "seg_001.mkv", "seg_x.mp4", "my_seg_001.mp4",
                 "seg_001.mp4.bak", "seg.mp4"):  # fmt: skip
        (tmp_path / name).touch()
    (tmp_path / "seg_  2.mp4").touch()
    (tmp_path / "seg_003.mp4").mkdir()
    (tmp_path / "seg_004.mp4").symlink_to(tmp_path / "seg_000.mp4")
    names = SegmentNames(tmp_path / "seg.mp4")
    assert [path.name for path in names.existing()] == ["seg_000.mp4", "seg_12.mp4"]
    assert names.first_number() == 13
    number, path = names.free(3)
    assert (number, path.name) == (5, "seg_005.mp4")


def test_numbers_are_the_order_and_otherwise_the_time(tmp_path):
    for age_s, name in ((10, "s_2.mp4"), (20, "s_10.mp4"), (30, "s_9.mp4")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age_s, 1e9 - age_s))
    found = SegmentNames(tmp_path / "s_%d.mp4").existing()
    assert [path.name for path in found] == ["s_2.mp4", "s_9.mp4", "s_10.mp4"]
    for age_s, name in ((10, "13.mp4"), (20, "14.mp4"), (5, "13-1.mp4")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age_s, 1e9 - age_s))
    found = SegmentNames(tmp_path / "%H.mp4").existing()
    assert [path.name for path in found] == ["14.mp4", "13.mp4", "13-1.mp4"]


def test_an_absent_directory_has_no_files():
    assert SegmentNames(Path("absent") / "seg.mp4").existing() == []
