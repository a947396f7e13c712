from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.realtime.frame import Frame
from rtseg.realtime.hud import HudText
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.view import ViewOptions
from rtseg.realtime.yuv import planes_420

SIZES = [(640, 360), (1280, 720), (3840, 2160)]


def flat(width, height, luma):
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, value in zip(frame.planes, (luma, 128, 128), strict=True):
        np.frombuffer(plane, np.uint8)[:] = value
    frame.colorspace, frame.color_range = 1, 1
    return frame


def changed(width, height, luma, text, **view):
    """Return where the luma of the input view changed, and the luma itself."""
    renderer = Renderer(CITYSCAPES, ViewOptions(view="input", **view))
    frame = Frame(0, flat(width, height, luma), 0, Fraction(1, 25))
    y = planes_420(renderer.render(frame, np.zeros((1, 1), np.uint8), text))[0]
    return y != luma, y


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("luma", [16, 128, 235])
def test_hud_is_legible_and_stays_in_its_corner(width, height, luma):
    text = HudText.of(fps=24.0, latency_p50_ms=52, latency_p95_ms=80, engine="espnet-lite")
    where, y = changed(width, height, luma, text, hud=True)
    assert where.any()
    rows, columns = np.nonzero(where)
    assert columns.max() < width * 0.45
    assert rows.max() < height * 0.35
    box = y[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    # white text on a box that is dark even over white
    assert box.max() > 200
    assert np.median(box) < 110
    line_height = (rows.max() - rows.min()) / len(text.lines)
    assert line_height >= max(12, height / 60)


def test_no_hud_no_change():
    text = HudText(("12 fps",))
    assert not changed(640, 360, 90, text, hud=False)[0].any()
    assert not changed(640, 360, 90, None, hud=True)[0].any()
    assert not changed(640, 360, 90, HudText(()), hud=True)[0].any()


def test_a_new_text_is_a_new_picture():
    renderer = Renderer(CITYSCAPES, ViewOptions(view="input", hud=True))
    frame = Frame(0, flat(640, 360, 90), 0, Fraction(1, 25))
    labels = np.zeros((1, 1), np.uint8)
    made = []
    for words in ("12 fps", "12 fps", "34 fps"):
        renderer.hud_text = HudText((words,))
        made.append(bytes(renderer.render(frame, labels).planes[0]))
    assert made[0] == made[1] != made[2]


def test_legend_shows_the_colours_of_the_shown_classes_only():
    def colours(**view):
        renderer = Renderer(CITYSCAPES, ViewOptions(legend=True, alpha=0.0, **view))
        frame = Frame(0, flat(640, 360, 90), 0, Fraction(1, 25))
        picture = renderer.render(frame, np.zeros((1, 1), np.uint8))
        return picture.to_ndarray(format="rgb24")[:, 320:].reshape(-1, 3).astype(int)

    def has(pixels, name):
        wanted = CITYSCAPES.palette[CITYSCAPES.index(name)]
        return (np.abs(pixels - wanted).max(axis=1) < 12).sum() >= 8

    everything = colours()
    assert has(everything, "car")
    assert has(everything, "terrain")
    some = colours(classes=(CITYSCAPES.index("car"),))
    assert has(some, "car")
    assert not has(some, "terrain")


@pytest.mark.parametrize("view", [{"hud": True}, {"legend": True}], ids=["hud", "legend"])
def test_portrait_pictures_have_lettering_of_the_same_size(view):
    """It was sized by their height alone, and a legend took half of their width."""
    renderer = Renderer(CITYSCAPES, ViewOptions(alpha=0.0, **view))
    text = HudText(("24.0 fps", "latency 52 ms"))
    extents = []
    for width, height in ((1920, 1080), (1080, 1920)):
        frame = Frame(0, flat(width, height, 90), 0, Fraction(1, 25))
        y = planes_420(renderer.render(frame, np.zeros((1, 1), np.uint8), text))[0]
        rows, columns = np.nonzero(y != 90)
        extents.append((np.ptp(rows), np.ptp(columns)))
    assert extents[0] == extents[1]


@pytest.mark.parametrize("text", ["naïve 路", "no UTF-8: \udcff", "a\nb\0", "😀 ไทย"])
def test_text_of_any_kind_is_drawn(text):
    where, _ = changed(640, 360, 90, HudText((text,)), hud=True)
    assert where.any()


@pytest.mark.parametrize(("width", "height"), [(640, 360), (320, 180), (96, 64)])
@pytest.mark.parametrize("count", [3, 150, 255])
def test_a_legend_has_as_many_classes_as_can_be_read(width, height, count):
    """150 classes were one strip of lines of two pixels."""
    palette = tuple((250 - n % 16, 3 * (n // 16), (40 + n) % 256) for n in range(count))
    classes = ClassTable(tuple(f"class {n}" for n in range(count)), palette)
    renderer = Renderer(classes, ViewOptions(view="overlay", legend=True, alpha=0.0))
    frame = Frame(0, flat(width, height, 90), 0, Fraction(1, 25))
    y = planes_420(renderer.render(frame, np.zeros((1, 1), np.uint8)))[0]
    rows, columns = np.nonzero(y != 90)
    assert columns.max() - columns.min() > 40  # readable, not shrunk to a strip
    if count == 3:
        assert rows.max() < max(60, height * 0.35)
    elif height >= 180:
        assert rows.max() > height * 0.8  # the height is used


def test_lines_say_only_what_is_known():
    assert HudText.of(fps=29.97).lines == ("30.0 fps",)
    assert HudText.of(dropped=3, source_s=3725.9).lines == ("dropped 3", "1:02:05")
    text = HudText.of(latency_p50_ms=41.6, latency_p95_ms=60, engine="e", precision="int8")
    assert text.lines == ("latency 42 ms  p95 60", "e int8")
