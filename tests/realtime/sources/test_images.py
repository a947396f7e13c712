"""Folders, globs, numbered files and single pictures."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.frame import Frame, now_ns
from rtseg.realtime.sources.find_images import natural_key
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from tests.data import shared_data
from tests.media import (
    frame_number,
    make_images,
    make_video,
    picture,
    white_corner,
    with_orientation,
)


def read(place: object, **options: Any) -> list[Frame]:
    with open_source(str(place), SourceOptions(**options)) as source:
        return list(source.frames())


def numbers(frames: list[Frame]) -> list[int]:
    return [frame_number(frame.video) for frame in frames]


def test_the_first_picture_comes_when_it_is_taken(tmp_path: Path) -> None:
    with open_source(str(make_images(tmp_path / "few", 2))) as source:
        asked_ns = now_ns()
        assert all(frame.captured_ns >= asked_ns for frame in source.frames())


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "ppm"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    folder = make_images(tmp_path / suffix, 3, pattern=f"frame_%d.{suffix}")
    assert numbers(read(folder)) == [0, 1, 2]


def test_a_picture_decodes_to_the_very_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    for suffix in ("png", "bmp", "tiff", "ppm"):
        path = tmp_path / f"noise.{suffix}"
        cv2.imwrite(str(path), pixels)
        (frame,) = read(path)
        assert np.array_equal(frame.video.to_ndarray(format="bgr24"), pixels), suffix


def test_ten_comes_after_nine(tmp_path: Path) -> None:
    make_images(tmp_path, 12, pattern="frame%d.png")
    assert numbers(read(tmp_path)) == list(range(12))
    assert numbers(read(tmp_path / "*.png")) == list(range(12))
    assert numbers(read(tmp_path / "frame%d.png")) == list(range(12))


@given(st.lists(st.integers(0, 10**9), unique=True))
def test_natural_order_is_that_of_the_numbers(values: list[int]) -> None:
    names = sorted((f"cam_{value}.png" for value in values), key=natural_key)
    assert names == [f"cam_{value}.png" for value in sorted(values)]


@given(st.lists(st.text(max_size=12)))
def test_natural_order_takes_any_name(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


def test_numbered_files_match_exactly_and_may_have_gaps(tmp_path: Path) -> None:
    make_images(tmp_path, 6)
    (tmp_path / "frame_000003.png").unlink()
    (tmp_path / "frame_7.png").write_bytes((tmp_path / "frame_000000.png").read_bytes())
    assert numbers(read(tmp_path / "frame_%06d.png")) == [0, 1, 2, 4, 5]
    with pytest.raises(SourceError) as caught:
        read(tmp_path / "frame_%03d.png")
    assert caught.value.reason == "NOT_FOUND"
    with pytest.raises(UsageError):
        read(tmp_path / "%d_%d.png")


def test_names_that_look_like_patterns_are_taken_as_they_are(tmp_path: Path) -> None:
    plain = make_images(tmp_path / "plain", 1) / "frame_000000.png"
    for name in ("a[1].png", "50%d.png", "b*.png", "c:d.png"):
        path = tmp_path / name
        path.write_bytes(plain.read_bytes())
        assert len(read(path)) == 1, name


def test_rate_parts_and_laps(tmp_path: Path) -> None:
    make_images(tmp_path, 10)
    with open_source(str(tmp_path), SourceOptions(fps=29.97, loop=2)) as source:
        assert source.info.fps == Fraction(2997, 100)
        assert source.info.frames == 20
        assert source.info.duration_s == pytest.approx(20 / 29.97)
        frames = list(source.frames())
    assert numbers(frames) == [*range(10), *range(10)]
    assert [frame.pts for frame in frames] == list(range(20))
    assert numbers(read(tmp_path, fps=10, start_s=0.3, duration_s=0.4)) == [3, 4, 5, 6]
    with pytest.raises(SourceError) as caught:
        read(tmp_path, fps=10, start_s=1)
    assert caught.value.reason == "NO_FRAMES"


def test_what_cannot_be_read_is_skipped_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_images(tmp_path, 6)
    (tmp_path / "frame_000000.png").write_bytes(b"")
    (tmp_path / "frame_000003.png").write_text("no picture")
    with caplog.at_level(logging.WARNING):
        frames = read(tmp_path)
    assert numbers(frames) == [1, 2, 4, 5]
    assert [frame.pts for frame in frames] == [0, 1, 3, 4]
    assert "frame_000003.png: skipped" in caplog.text
    assert "2 unreadable pictures were skipped" in caplog.text


def test_pictures_may_differ_in_size(tmp_path: Path) -> None:
    make_images(tmp_path, 2, (96, 64))
    make_images(tmp_path, 1, (32, 48), pattern="other_%d.png")
    with open_source(str(tmp_path)) as source:
        assert (source.info.width, source.info.height) == (96, 64)
        sizes = [(f.video.width, f.video.height) for f in source.frames()]
    assert sizes == [(96, 64), (96, 64), (32, 48)]


@pytest.mark.parametrize(
    ("place", "said"),
    [("nothing", "no pictures in this folder"), ("nothing/*.png", "no pictures match")],
)
def test_no_pictures(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "drive.mp4").write_bytes(b"x")
    with pytest.raises(SourceError) as caught:
        read(tmp_path / place)
    assert caught.value.reason == "NOT_FOUND"
    assert said in str(caught.value)
    assert ".png" in str(caught.value)


def test_nothing_readable_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(SourceError) as caught:
        read(tmp_path)
    assert caught.value.reason == "NO_FRAMES"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured_as_opencv_does(tmp_path: Path, orientation: int) -> None:
    ok, jpeg = cv2.imencode(".jpg", picture(0, (96, 64)).to_ndarray(format="bgr24"))
    assert ok
    path = tmp_path / "phone.jpg"
    path.write_bytes(with_orientation(jpeg.tobytes(), orientation))
    expected = cv2.imread(str(path))
    assert expected is not None
    (frame,) = read(path)
    assert (frame.video.height, frame.video.width) == expected.shape[:2]
    assert frame.video.rotation == 0
    reference = type(frame.video).from_ndarray(expected, format="bgr24")
    assert white_corner(frame.video) == white_corner(reference)


def test_a_whole_data_set_folder() -> None:
    folder = shared_data("camvid", "val")
    with open_source(str(folder)) as source:
        assert (source.info.width, source.info.height) == (480, 360)
        assert source.info.frames == 101
        assert sum(1 for _ in source.frames()) == 101


# -- videos among them -------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["seg_%03d.mp4", "*.mp4", "seg_00?.mp4", "."])
def test_videos_are_no_pictures(tmp_path: Path, pattern: str) -> None:
    for index in range(5):
        make_video(tmp_path / f"seg_{index:03d}.mp4", 2)
    with pytest.raises(SourceError) as caught:
        read(tmp_path / pattern)
    assert caught.value.reason == "NOT_FOUND"
    assert "5 videos (seg_000.mp4, seg_001.mp4, seg_002.mp4, …)" in str(caught.value)
    assert "rt-seg" in str(caught.value)


@pytest.mark.parametrize("pattern", ["", "*"])
def test_videos_beside_pictures_are_said_to_be_left_out(
    tmp_path: Path, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_images(tmp_path, 3)
    make_video(tmp_path / "drive.mp4", 2)
    assert numbers(read(tmp_path / pattern)) == [0, 1, 2]
    assert "left out: 1 video (drive.mp4)" in caplog.text


def test_pictures_alone_need_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path, 3)
    assert numbers(read(tmp_path)) == [0, 1, 2]
    assert numbers(read(tmp_path / "frame_%06d.png")) == [0, 1, 2]
    assert not caplog.records
