"""A frame brought to another frame's size, matrix and range looks the same."""

from __future__ import annotations

import av
import numpy as np
import pytest

from rtseg.realtime.yuv import (
    BT709,
    FULL,
    LIMITED,
    SMPTE170M,
    UNSPECIFIED,
    ColourTags,
    as_rgb,
    colour_tags,
    converted,
    planes_420,
    sws_matrix,
)

COLOUR = (200, 60, 30)
TARGETS = [ColourTags(SMPTE170M, False), ColourTags(BT709, True)]


def flat(name: str, full: bool) -> av.VideoFrame:
    rgb = np.full((48, 64, 3), COLOUR, np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    if name == "rgb24":
        return frame
    frame = frame.reformat(format=name, dst_color_range=FULL if full else LIMITED)
    frame.color_range = FULL if full else LIMITED
    return frame


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    if frame.format.is_rgb:
        return frame.to_ndarray(format="rgb24")
    tags = colour_tags(frame)
    return frame.to_ndarray(
        format="rgb24",
        src_colorspace=sws_matrix(tags),
        src_color_range=FULL if tags.full_range else LIMITED,
        dst_color_range=FULL,
    )


@pytest.mark.parametrize("tags", TARGETS)
@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("yuvj420p", True),
        ("yuv420p", False),
        ("yuv422p", True),
        ("nv12", False),
        ("yuv420p10le", False),
        ("rgb24", False),
    ],
)
def test_colours_stay(name: str, full: bool, tags: ColourTags) -> None:
    frame = flat(name, full)
    new = converted(frame, tags, (32, 20))
    assert (new.width, new.height) == (32, 20)
    found = colour_tags(new)
    assert (found.matrix, found.full_range) == (tags.matrix, tags.full_range)
    assert np.abs(to_rgb(new)[10, 16].astype(int) - COLOUR).max() <= 4


def test_a_frame_that_is_so_already_is_not_copied() -> None:
    frame = flat("yuv420p", False)
    assert converted(frame, colour_tags(frame), (64, 48)) is frame


@pytest.mark.parametrize("full", [True, False])
def test_rgb_gets_the_range_of_the_first_frame(full: bool) -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, 32:] = 255
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    new = converted(frame, ColourTags(BT709, full), (64, 48))
    luma = planes_420(new)[0]
    assert (int(luma[20, 4]), int(luma[20, 60])) == ((0, 255) if full else (16, 235))
    assert (int(new.colorspace), int(new.color_range)) == (BT709, FULL if full else LIMITED)


@pytest.mark.parametrize("name", ["pal8", "rgbf32le", "gbrpf32le", "rgba64le", "rgb8"])
def test_any_rgb_is_scaled(name: str) -> None:
    frame = av.VideoFrame(64, 48, name)
    new = converted(frame, TARGETS[0], (32, 20))
    assert (new.width, new.height, new.format.name) == (32, 20, "yuv420p")


@pytest.mark.parametrize("layout", ["rgb24", "bgr24"])
@pytest.mark.parametrize("full", [True, False])
def test_a_frame_without_a_matrix_is_shown_as_it_was_meant(full: bool, layout: str) -> None:
    rgb = np.full((48, 1280, 3), COLOUR, np.uint8)
    made = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=1, dst_color_range=FULL if full else LIMITED
    )
    made.colorspace, made.color_range = UNSPECIFIED, FULL if full else LIMITED
    shown = as_rgb(made, layout)[20, 40].astype(int)
    assert np.abs(shown - (COLOUR if layout == "rgb24" else COLOUR[::-1])).max() <= 4


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((640, 480), SMPTE170M),
        ((480, 640), SMPTE170M),
        ((576, 720), SMPTE170M),
        ((1280, 720), BT709),
        ((720, 1280), BT709),
        ((800, 600), BT709),
    ],
)
def test_the_matrix_of_a_turned_picture(size: tuple[int, int], matrix: int) -> None:
    assert colour_tags(av.VideoFrame(*size, "yuv420p")).matrix == matrix
