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
from rtseg.engines.fit import fit, of_frame
from rtseg.engines.preprocess import array_to_engine_input, to_engine_input
from rtseg.engines.registry import open_engine
from rtseg.engines.spec import EngineSpec
from tests.engines.networks import TinyNet

sides = st.integers(1, 4000)


@given(width=sides, height=sides, columns=st.integers(1, 600), rows=st.integers(1, 600))
def test_a_frame_lies_in_the_middle_as_large_as_can_be(
    width: int, height: int, columns: int, rows: int
) -> None:
    place = fit(width, height, columns, rows)
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
    pixels = array_to_engine_input(image, 32, 48, pad=114)
    np.testing.assert_array_equal(pixels[4:28], array_to_engine_input(image, 24, 48))
    assert (pixels[:4] == 114).all()
    assert (pixels[28:] == 114).all()
    given = np.zeros((32, 48, 3), np.uint8)
    assert array_to_engine_input(image, 32, 48, pad=114, out=given) is given
    np.testing.assert_array_equal(given, pixels)


def test_a_frame_of_the_shape_has_nothing_around_it() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    np.testing.assert_array_equal(
        array_to_engine_input(image, 32, 48, pad=0), array_to_engine_input(image, 32, 48)
    )


@given(width=st.integers(1, 200), height=st.integers(1, 200))
def test_class_ids_are_those_of_the_frame(width: int, height: int) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 255, np.uint8), format="rgb24")
    pixels = to_engine_input(frame, 32, 48, pad=7)
    there = of_frame(pixels[..., 0].copy(), width, height, 7)
    assert (there == 255).all()
    assert (pixels == 255).sum() == 3 * there.size


def test_labels_without_padding_are_not_touched() -> None:
    labels = np.zeros((32, 48), np.uint8)
    assert of_frame(labels, 100, 50, None) is labels


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
    assert EngineSpec.from_json(EngineSpec("n", 32, 32, pad=114).to_json()).pad == 114
