"""Frames that keep their shape: where they lie, and that class ids come from there."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.errors import EngineError
from rtseg.engines.fit import FILL, Fit, Region
from rtseg.engines.preprocess import array_to_engine_input, to_engine_input
from rtseg.engines.registry import open_engine
from rtseg.engines.spec import EngineSpec
from tests.engines.networks import TinyNet

sides = st.integers(1, 4000)
KEPT = Fit(114)


@given(width=sides, height=sides, columns=st.integers(1, 600), rows=st.integers(1, 600))
def test_a_frame_lies_in_the_middle_as_large_as_can_be(
    width: int, height: int, columns: int, rows: int
) -> None:
    place = KEPT.place(width, height, columns, rows)
    assert place.height == rows or place.width == columns
    assert 1 <= place.height <= rows
    assert 1 <= place.width <= columns
    for before, length, whole in (
        (place.top, place.height, rows),
        (place.left, place.width, columns),
    ):
        assert 0 <= whole - length - 2 * before <= 1
    # its shape, to a pixel
    assert abs(place.width - max(1, width * place.height / height)) <= max(1, width / height)


def test_what_is_around_a_frame_is_gray() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 100, 3), np.uint8)
    pixels = array_to_engine_input(image, 32, 48, fit=KEPT)
    np.testing.assert_array_equal(pixels[4:28], array_to_engine_input(image, 24, 48))
    assert (pixels[:4] == 114).all()
    assert (pixels[28:] == 114).all()
    given = np.zeros((32, 48, 3), np.uint8)
    assert array_to_engine_input(image, 32, 48, fit=KEPT, out=given) is given
    np.testing.assert_array_equal(given, pixels)


def test_a_frame_of_the_shape_has_nothing_around_it() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    np.testing.assert_array_equal(
        array_to_engine_input(image, 32, 48, fit=Fit(0)), array_to_engine_input(image, 32, 48)
    )


@given(width=st.integers(1, 200), height=st.integers(1, 200))
def test_class_ids_are_those_of_the_frame(width: int, height: int) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 255, np.uint8), format="rgb24")
    pixels = to_engine_input(frame, 32, 48, fit=Fit(7))
    there = Fit(7).of_frame(pixels[..., 0].copy(), width, height)
    assert (there == 255).all()
    assert (pixels == 255).sum() == 3 * there.size


def test_labels_without_padding_are_not_touched() -> None:
    labels = np.zeros((32, 48), np.uint8)
    assert FILL.of_frame(labels, 100, 50) is labels
    assert KEPT.of_frame(labels, 96, 64) is labels


@given(width=sides, height=sides, least=st.floats(0, 1), most=st.floats(1, 3))
def test_a_frame_is_stretched_as_far_as_it_may_be(
    width: int, height: int, least: float, most: float
) -> None:
    place = Fit(114, (least, most)).place(width, height, 672, 448)
    assert place.height == 448 or place.width == 672
    fills = (672 / 448) / (width / height)
    if least <= fills <= most:
        assert place == Region(0, 0, 448, 672)
    elif fills > most:  # narrow: something is left and right, but for a pixel's rounding
        assert place.height == 448
        assert place.width == pytest.approx(max(1, 448 * most * width / height), abs=0.51)
    else:
        assert place.width == 672
        assert place.height == pytest.approx(max(1, 672 * height / width / least), abs=0.51)


@pytest.mark.parametrize(
    ("width", "height", "place"),
    [
        (1280, 720, Region(0, 0, 480, 640)),
        (2400, 960, Region(0, 0, 480, 640)),
        (3840, 1080, Region(60, 0, 360, 640)),
        (640, 480, Region(0, 0, 480, 640)),
        (720, 1280, Region(0, 165, 480, 310)),
        (1000, 1000, Region(0, 44, 480, 552)),
    ],
)
def test_the_shipped_network_changes_no_shape_by_much(
    width: int, height: int, place: Region
) -> None:
    with open_engine() as engine:
        spec = engine.spec
    assert (spec.width, spec.height) == (640, 480)
    assert spec.fit.place(width, height, 640, 480) == place


@given(width=sides, height=sides, aspect=st.sampled_from([1, 2, 3, 4]))
def test_pixels_that_are_not_square(width: int, height: int, aspect: int) -> None:
    fit = Fit(114, (0.5, 1.15))
    seen = fit.place(width * aspect, height, 672, 448)
    assert fit.of_pixels(aspect).place(width, height, 672, 448) == seen
    seen = fit.place(width, height * aspect, 672, 448)
    assert fit.of_pixels(1 / aspect).place(width, height, 672, 448) == seen


@pytest.mark.parametrize("aspect", [0, 1, 0.2, 5, 1e9])
def test_no_recorder_has_such_pixels(aspect: float) -> None:
    fit = Fit(114, (0.5, 1.15))
    assert fit.of_pixels(aspect) is fit


@pytest.mark.parametrize("stretch", [(1.1, 1.0), (-1, 1), (0, 0), (float("nan"), 1)])
def test_stretch_goes_from_less_to_more(stretch: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="stretch is two numbers"):
        EngineSpec("n", 32, 32, pad=0, stretch=stretch)


@pytest.mark.parametrize("pad", [-1, 256, 1.5])
def test_gray_is_a_byte(pad: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 255"):
        EngineSpec("n", 32, 32, pad=pad)


@pytest.mark.parametrize("pad", [True, -1, 256, 1.5, "black"])
def test_gray_in_a_note_is_a_byte_or_false(tmp_path: Path, pad: object) -> None:
    path = TinyNet().save(tmp_path / "net.onnx")
    (tmp_path / "net.onnx.json").write_text(json.dumps({"pad": pad}))
    with pytest.raises(EngineError, match="pad must be a whole number"):
        open_engine(path)


def test_a_description_keeps_it() -> None:
    spec = EngineSpec("n", 32, 32, pad=114, stretch=(0.5, 1.15))
    assert EngineSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("given", [1, [1], [1, 2, 3], [2, 1], ["a", 1], [None, 1], [-1, 1], [0, 0]])
def test_stretch_in_a_note_is_two_numbers(tmp_path: Path, given: object) -> None:
    path = TinyNet().save(tmp_path / "net.onnx")
    (tmp_path / "net.onnx.json").write_text(json.dumps({"pad": 0, "stretch": given}))
    with pytest.raises(EngineError, match="stretch must be"):
        open_engine(path)
    (tmp_path / "net.onnx.json").write_text(json.dumps({"pad": 0, "stretch": [0.5, 2]}))
    with open_engine(path) as engine:
        assert engine.spec.fit == Fit(0, (0.5, 2.0))
