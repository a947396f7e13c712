from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.temporal import ConsistencyMeter, reliable, warp_labels, working_size

HEIGHT, WIDTH = 160, 240
U8 = NDArray[np.uint8]


def world(seed: int = 0) -> tuple[U8, U8]:
    """A textured picture larger than a frame, and its classes in vertical stripes."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (HEIGHT + 64, WIDTH + 64, 3), np.uint8)
    picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    classes = np.repeat(np.arange((WIDTH + 64) // 16 + 1) % 3, 16)[: WIDTH + 64]
    return np.asarray(picture, np.uint8), np.tile(classes.astype(np.uint8), (HEIGHT + 64, 1))


def frame(array: U8, x: int, y: int = 0) -> U8:
    return np.ascontiguousarray(array[y : y + HEIGHT, x : x + WIDTH])


def test_labels_that_move_with_the_picture_are_consistent() -> None:
    picture, classes = world()
    meter = ConsistencyMeter(3)
    for step in range(4):
        meter.add(frame(picture, 5 * step, 2 * step), frame(classes, 5 * step, 2 * step))
    result = meter.result()
    assert result.pairs == 3
    assert result.mean_iou > 0.98
    assert result.agreement > 0.99
    # Five columns and two rows come into view with each frame.
    assert 0.85 < result.judged < 1 - 5 / WIDTH + 0.005


def test_labels_that_stay_behind_are_not() -> None:
    picture, classes = world()
    meter = ConsistencyMeter(3)
    for step in range(3):
        meter.add(frame(picture, 8 * step), frame(classes, 0))
    # Stripes of 16 pixels that should have moved by 8: half of the pixels disagree.
    assert meter.result().agreement == pytest.approx(0.5, abs=0.03)
    assert meter.result().mean_iou == pytest.approx(1 / 3, abs=0.03)


def test_a_flicker_on_a_still_picture_counts_exactly() -> None:
    image = frame(world()[0], 0)
    calm = np.zeros((HEIGHT, WIDTH), np.uint8)
    flicker = calm.copy()
    flicker[: HEIGHT // 4] = 1
    meter = ConsistencyMeter(2)
    for labels in (calm, flicker, calm):
        meter.add(image, labels)
    result = meter.result()
    assert result.judged == 1.0
    assert result.agreement == 0.75
    assert result.class_iou.tolist() == [0.75, 0.0]


def test_what_comes_into_view_is_not_judged() -> None:
    first = frame(world(1)[0], 0)
    second = first.copy()
    patch = frame(world(2)[0], 0)[:48, :48]
    first[50:98, 60:108] = patch
    second[50:98, 90:138] = patch
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    meter = ConsistencyMeter(2)
    meter.add(first, labels)
    meter.add(second, labels)
    uncovered = 48 * 30 / (HEIGHT * WIDTH)
    assert meter.result().judged < 1 - uncovered / 2


def test_warping_fetches_from_where_the_flow_points() -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    flow = np.zeros((3, 4, 2), np.float32)
    flow[..., 0], flow[..., 1] = 1.2, -1
    assert warp_labels(labels, flow).tolist() == [
        [255, 255, 255, 255],
        [1, 2, 3, 255],
        [5, 6, 7, 255],
    ]


def test_flow_that_does_not_return_is_not_trusted() -> None:
    there = np.full((4, 4, 2), 3, np.float32)
    assert reliable(there, -there).all()
    assert not reliable(there, np.zeros_like(there)).any()


def test_large_frames_are_compared_smaller() -> None:
    assert working_size(1024, 2048) == (512, 1024)
    assert working_size(360, 640) == (360, 640)
    meter = ConsistencyMeter(2)
    with pytest.raises(CalibrationError, match=r"compared at \(512, 1024\)"):
        meter.add(np.zeros((1024, 2048, 3), np.uint8), np.zeros((1024, 2048), np.uint8))


def test_one_frame_is_not_enough_and_sizes_must_agree() -> None:
    meter = ConsistencyMeter(2)
    meter.add(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8))
    with pytest.raises(CalibrationError, match="at least 2 consecutive frames"):
        meter.result()
    with pytest.raises(CalibrationError, match="all must have one size"):
        meter.add(np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8))


def test_frames_too_small_for_flow_are_refused() -> None:
    meter = ConsistencyMeter(2)
    tiny = np.zeros((8, 8, 3), np.uint8)
    meter.add(tiny, tiny[..., 0])
    with pytest.raises(CalibrationError, match="too small for optical flow") as caught:
        meter.add(tiny, tiny[..., 0])
    assert caught.value.reason == "BAD_INPUT"


def test_void_that_a_network_gives_is_missed() -> None:
    image = frame(world()[0], 0)
    calm = np.zeros((HEIGHT, WIDTH), np.uint8)
    hole = calm.copy()
    hole[: HEIGHT // 4] = 255
    meter = ConsistencyMeter(2)
    for labels in (calm, hole):
        meter.add(image, labels)
    assert meter.result().agreement == 0.75
