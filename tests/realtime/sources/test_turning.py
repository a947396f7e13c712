"""Cameras on their side or head: ``--rotate`` and ``--flip``, on top of what a file says."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import pytest

from rtseg.engines.upright import Turner
from rtseg.realtime.cli import main
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.stdin import StdinSource
from tests.media import make_images, make_video, picture, white_corner, with_orientation

WIDE, TALL = (96, 64), (64, 96)

TURNS = [
    (0, None, "top left", WIDE),
    (90, None, "top right", TALL),
    (180, None, "bottom right", WIDE),
    (270, None, "bottom left", TALL),
    (0, "horizontal", "top right", WIDE),
    (0, "vertical", "bottom left", WIDE),
    (90, "horizontal", "top left", TALL),
    (270, "vertical", "top left", TALL),
]


@pytest.mark.parametrize(("rotate", "flip", "corner", "size"), TURNS)
@pytest.mark.parametrize("kind", ["file", "picture", "pipe"])
def test_every_picture_is_turned_and_mirrored(
    tmp_path: Path, kind: str, rotate: int, flip: str | None, corner: str, size: tuple[int, int]
) -> None:
    options = SourceOptions(rotate=rotate, flip=flip)
    reader = None
    if kind == "file":
        source = open_source(str(make_video(tmp_path / "a.mp4", 3)), options)
    elif kind == "picture":
        source = open_source(str(make_images(tmp_path / "a", 3)), options)
    else:
        reader, writer = os.pipe()
        os.write(writer, make_video(tmp_path / "a.mkv", 3).read_bytes())
        os.close(writer)
        source = StdinSource(options, fd=reader)
    with source:
        frames = list(source.frames())
        assert (source.info.width, source.info.height) == size
    assert [white_corner(frame.video) for frame in frames] == [corner] * 3
    assert {(frame.video.width, frame.video.height) for frame in frames} == {size}
    if reader is not None:
        os.close(reader)


def test_it_comes_on_top_of_what_a_file_says(tmp_path: Path) -> None:
    # Shown a quarter turn counter-clockwise by players, and a half turn more.
    path = make_video(tmp_path / "phone.mp4", 3, rotation=90)
    with open_source(str(path)) as source:
        assert white_corner(next(source.frames()).video) == "bottom left"
    with open_source(str(path), SourceOptions(rotate=180)) as source:
        assert white_corner(next(source.frames()).video) == "top right"
        assert (source.info.width, source.info.height) == TALL
    with open_source(str(path), SourceOptions(rotate=90)) as source:
        assert white_corner(next(source.frames()).video) == "top left"
        assert (source.info.width, source.info.height) == WIDE


def test_it_comes_on_top_of_what_a_picture_says(tmp_path: Path) -> None:
    _, jpeg = cv2.imencode(".jpg", picture(0, WIDE).to_ndarray(format="bgr24"))
    path = tmp_path / "a.jpg"
    path.write_bytes(with_orientation(jpeg.tobytes(), 6))  # to be turned clockwise
    with open_source(str(path), SourceOptions(rotate=180)) as source:
        assert white_corner(next(source.frames()).video) == "bottom left"
        assert (source.info.width, source.info.height) == TALL


def test_pixels_that_are_not_square_turn_too(tmp_path: Path) -> None:
    path = tmp_path / "dv.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *WIDE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        frame = picture(0, WIDE)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    for rotate, ratio in ((180, Fraction(16, 11)), (270, Fraction(11, 16))):
        with open_source(str(path), SourceOptions(rotate=rotate)) as source:
            assert source.info.sample_aspect_ratio == ratio


def test_what_is_written_lies_as_asked(tmp_path: Path) -> None:
    clip, out = make_video(tmp_path / "a.mp4", 3), tmp_path / "seg.mp4"
    words = [clip, out, "--rotate", 90, "--flip", "horizontal", "--view", "input", "-q"]
    assert main([str(word) for word in words]) == 0
    with av.open(str(out)) as file:
        frames = list(file.decode(video=0))
    assert [white_corner(frame) for frame in frames] == ["top left"] * 3
    assert {(frame.width, frame.height, frame.rotation) for frame in frames} == {(*TALL, 0)}


@pytest.mark.parametrize("pixel_format", ["yuvj422p", "yuv422p", "yuyv422", "nv12"])
@pytest.mark.parametrize("rotate", [90, 180])
def test_colours_keep_their_meaning(pixel_format: str, rotate: int) -> None:
    frame = picture(0, WIDE, pixel_format)
    frame.time_base = Fraction(1, 25)
    frame.colorspace, frame.color_range = 5, 2
    made = Turner(rotate).upright(frame)
    assert (int(made.colorspace), int(made.color_range)) == (5, 2)
