"""Frames become engine input the same way everywhere."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.engines.errors import EngineError
from rtseg.engines.preprocess import array_to_engine_input, to_engine_input
from tests.data import needs_shared_data, shared_data


def plain_frame(height: int, width: int, luma: int, *, full_range: bool = False) -> av.VideoFrame:
    """A gray frame of YUV 4:2:0."""
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = luma
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.color_range = 2 if full_range else 1
    return frame


def test_limited_range_is_stretched_to_full() -> None:
    white = to_engine_input(plain_frame(64, 96, 235), 32, 32)
    black = to_engine_input(plain_frame(64, 96, 16), 32, 32)
    assert white.min() >= 252  # swscale's fixed point
    assert black.max() <= 1


def test_full_range_is_left_as_it_is() -> None:
    pixels = to_engine_input(plain_frame(64, 96, 235, full_range=True), 32, 32)
    assert abs(int(pixels[0, 0, 0]) - 235) <= 1


def test_colour_space_of_the_frame_is_used() -> None:
    planes = np.full((96, 64), 90, np.uint8)
    planes[:64] = 120
    pixels = []
    for colorspace in (1, 5):  # BT.709, BT.601
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.colorspace = colorspace
        pixels.append(to_engine_input(frame, 32, 32)[16, 16].astype(int))
    # Green of Y 120, U 90, V 90 after BT.709 and BT.601 (ITU-R, limited range).
    luma = (120 - 16) * 255 / 219
    u = v = (90 - 128) * 255 / 224
    assert pixels[0][1] == pytest.approx(luma - 0.1873 * u - 0.4681 * v, abs=2.5)
    assert pixels[1][1] == pytest.approx(luma - 0.3441 * u - 0.7141 * v, abs=2.5)


def test_same_size_keeps_an_rgb_array() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    np.testing.assert_array_equal(array_to_engine_input(image, 37, 53), image)


@pytest.mark.parametrize("pixels", ["rgb24", "yuv420p"])
@pytest.mark.parametrize("size", [(64, 64), (48, 72)])
def test_what_comes_back_is_shared_with_nobody(pixels: str, size: tuple[int, int]) -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
    first, second = (to_engine_input(frame, *size) for _ in range(2))
    first[:] = 7
    assert (second > 80).all()
    assert (to_engine_input(frame, *size) > 80).all()
    assert (frame.to_ndarray(format="rgb24") > 80).all()


def test_channel_order_is_red_green_blue() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = 200
    assert array_to_engine_input(image, 16, 16)[8, 8].tolist() == [200, 0, 0]


def test_halving_averages_the_area() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 200
    pixels = array_to_engine_input(image, 32, 32)
    np.testing.assert_allclose(pixels[2:-2, 2:-2], 100, atol=2)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(0, 255),
)
def test_any_size_gives_the_size_asked_for_and_keeps_a_plain_colour(
    height: int, width: int, to_height: int, to_width: int, value: int
) -> None:
    image = np.full((height, width, 3), value, np.uint8)
    pixels = array_to_engine_input(image, to_height, to_width)
    assert pixels.shape == (to_height, to_width, 3)
    assert pixels.dtype == np.uint8
    assert abs(pixels.astype(int) - value).max() <= 2


def test_out_is_filled_and_returned() -> None:
    out = np.zeros((32, 48, 3), np.uint8)
    frame = plain_frame(64, 96, 235)
    assert to_engine_input(frame, 32, 48, out=out) is out
    np.testing.assert_array_equal(out, to_engine_input(frame, 32, 48))


@pytest.mark.parametrize(
    "out", [np.zeros((32, 48, 4), np.uint8), np.zeros((32, 48, 3), np.float32)]
)
def test_wrong_out_is_refused(out: np.ndarray) -> None:
    with pytest.raises(EngineError, match="Received") as caught:
        to_engine_input(plain_frame(64, 96, 235), 32, 48, out=out)
    assert caught.value.reason == "BAD_INPUT"


def test_wrong_sizes_and_arrays_are_refused() -> None:
    with pytest.raises(EngineError, match="at least 1x1"):
        to_engine_input(plain_frame(64, 96, 235), 0, 48)
    with pytest.raises(EngineError, match="H x W x 3"):
        array_to_engine_input(np.zeros((8, 8), np.uint8), 32, 32)


def test_threads_do_not_disturb_each_other() -> None:
    frames = [plain_frame(64 + 2 * n, 96, 40 + 20 * n) for n in range(4)]
    expected = [to_engine_input(frame, 48, 48) for frame in frames]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            if not np.array_equal(to_engine_input(frames[number], 48, 48), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_shared_data
def test_a_real_frame_comes_out_like_a_plain_conversion() -> None:
    path: Path = shared_data("videos", "highway-720p.mp4")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    pixels = to_engine_input(frame, 128, 128).astype(int)
    # The same frame through RGB at full size first, then averaged.
    plain = array_to_engine_input(frame.to_ndarray(format="rgb24"), 128, 128).astype(int)
    assert abs(pixels - plain).mean() < 3


@needs_shared_data
@pytest.mark.parametrize("name", ["h265_10bits.mp4", "h264_10bits.mp4", "test.mjpeg"])
def test_odd_pixel_formats_are_converted(name: str) -> None:
    path: Path = shared_data("videos", "odd", name)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    pixels = to_engine_input(frame, 96, 160)
    assert pixels.shape == (96, 160, 3)
    plain = frame.to_ndarray(format="rgb24").mean((0, 1))
    np.testing.assert_allclose(pixels.mean((0, 1)), plain, atol=3)
