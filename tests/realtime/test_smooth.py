"""Steadier class ids: flicker goes, what moves or changes does not trail."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import U8, Frame
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.refine import Seen
from rtseg.realtime.smooth import DEFAULT_FRAMES, MOST_FRAMES, Smoother
from rtseg.realtime.throttle import FlowOptions
from tests.realtime.parts import BrightnessEngine, GraySource, ListSink

WIDTH, HEIGHT, LABELS = 640, 320, 256
ROAD, CAR, SKY = 0, 13, 10


def texture(seed: int, width: int = 2 * WIDTH, height: int = HEIGHT) -> U8:
    """Something that flow can hold on to: blurred noise."""
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.integers(0, 256, (height, width)).astype(np.float32), (0, 0), 4)
    return cv2.normalize(noise, None, 20, 230, cv2.NORM_MINMAX).astype(np.uint8)


def video(gray: U8, name: str = "gray") -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(gray), format="gray")
    return frame if name == "gray" else frame.reformat(format=name)


def plain(value: int) -> U8:
    return np.full((LABELS, LABELS), value, np.uint8)


def with_car(left: int) -> U8:
    """A car of 64×64 label pixels, ``left`` columns from the edge."""
    labels = plain(ROAD)
    labels[96:160, left : left + 64] = CAR
    return labels


def flicker(labels: U8, seed: int) -> U8:
    """Blobs of another class, somewhere else in each frame."""
    random = np.random.default_rng(seed)
    spoilt = labels.copy()
    for row, column in random.integers(0, LABELS - 20, (8, 2)):
        spoilt[row : row + 16, column : column + 16] = SKY
    return spoilt


def test_flicker_of_a_still_picture_goes() -> None:
    smoother, picture = Smoother(), video(texture(1)[:, :WIDTH])
    wrong_before = wrong_after = 0
    for index in range(30):
        spoilt = flicker(plain(ROAD), index) if index else plain(ROAD)
        steady = smoother.steady(picture, spoilt, index / 30)
        wrong_before += np.count_nonzero(spoilt != ROAD)
        wrong_after += np.count_nonzero(steady != ROAD)
    assert wrong_before > 30_000
    # blobs of two frames in a row may lie on each other
    assert wrong_after < 0.1 * wrong_before


@pytest.mark.parametrize("frames", [2, 3, 5])
def test_flicker_of_a_moving_picture_goes_and_classes_stay_where_they_are(frames: int) -> None:
    """The camera pans by 8 pixels a frame; the border of two classes pans along."""
    smoother, scene = Smoother(frames), texture(2)
    before, after = [], []
    for index in range(25):
        truth = plain(ROAD)
        truth[:, max(0, 200 - round(index * 8 * LABELS / WIDTH)) :] = SKY + 1
        spoilt = flicker(truth, index)
        steady = smoother.steady(video(scene[:, 8 * index : 8 * index + WIDTH]), spoilt, index / 30)
        if index >= 5:
            before.append((spoilt != truth).mean())
            after.append((steady != truth).mean())
    assert np.mean(after) < 0.4 * np.mean(before)


@pytest.mark.parametrize("frames", [2, 3, MOST_FRAMES])
@pytest.mark.parametrize("speed_px", [2, 6, 12, 24])
def test_a_moving_object_does_not_trail(frames: int, speed_px: int) -> None:
    """A textured car over a still, textured ground; the network is right in every frame."""
    smoother, ground, car = Smoother(frames), texture(3)[:, :WIDTH], texture(4, 160, 80)
    trail = lost = area = 0
    for index in range(16):
        left_px = 40 + index * speed_px
        picture = ground.copy()
        picture[120:200, left_px : left_px + 160] = car
        truth = with_car(round(left_px * LABELS / WIDTH))
        steady = smoother.steady(video(picture), truth, index / 30)
        trail += np.count_nonzero((steady == CAR) & (truth != CAR))
        lost += np.count_nonzero((steady != CAR) & (truth == CAR))
        area += np.count_nonzero(truth == CAR)
    # a boundary that lagged by one frame would cost speed * 64 of 64 * 64 pixels
    one_frame = speed_px * LABELS / WIDTH / 64
    assert trail / area < max(0.03, 0.5 * one_frame)
    assert lost / area < max(0.03, 0.5 * one_frame)


@pytest.mark.parametrize("frames", [1, 2, 4, MOST_FRAMES])
def test_a_lasting_change_comes_after_so_many_frames(frames: int) -> None:
    smoother, picture = Smoother(frames), video(texture(5)[:, :WIDTH])
    for index in range(3):
        smoother.steady(picture, plain(ROAD), index / 30)
    classes = [
        int(smoother.steady(picture, plain(CAR), index / 30)[128, 128]) for index in range(3, 20)
    ]
    assert classes.index(CAR) == frames - 1
    assert set(classes[frames - 1 :]) == {CAR}


def test_after_a_cut_nothing_of_the_scene_before_is_left() -> None:
    smoother = Smoother(MOST_FRAMES)
    for index in range(5):
        smoother.steady(video(texture(6)[:, :WIDTH]), plain(ROAD), index / 30)
    for index in range(5, 8):
        steady = smoother.steady(video(texture(7)[:, :WIDTH]), plain(SKY), index / 30)
        assert (steady == SKY).mean() > 0.99


@pytest.mark.parametrize("then_s", [60.0, 0.0, -5.0, 4 / 30])
def test_after_a_gap_or_a_jump_in_time_the_network_counts(then_s: float) -> None:
    smoother, picture = Smoother(MOST_FRAMES), video(texture(8)[:, :WIDTH])
    for index in range(5):
        smoother.steady(picture, plain(ROAD), index / 30)
    assert (smoother.steady(picture, plain(CAR), then_s) == CAR).all()


def test_another_size_of_map_or_frame_is_taken_as_it_is() -> None:
    smoother = Smoother(MOST_FRAMES)
    smoother.steady(video(texture(9)[:, :WIDTH]), plain(ROAD), 0.0)
    other = np.full((64, 128), CAR, np.uint8)
    assert (smoother.steady(video(texture(9)[:, :WIDTH]), other, 1 / 30) == CAR).all()
    small = texture(9)[::2, : 2 * WIDTH // 2 : 2]
    assert smoother.steady(video(small), other, 2 / 30).shape == other.shape


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "rgb24", "yuv422p10le", "gray"])
def test_every_format_is_read(name: str) -> None:
    smoother, picture = Smoother(4), video(texture(10)[:, :WIDTH], name)
    smoother.steady(picture, plain(ROAD), 0.0)
    assert (smoother.steady(picture, plain(CAR), 1 / 30) == ROAD).mean() > 0.95


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 80), st.integers(1, 80), st.integers(1, 90), st.integers(1, 90),
    st.integers(1, MOST_FRAMES), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_size_works_and_gives_only_classes_that_the_network_gave(
    rows: int, columns: int, width: int, height: int, frames: int, seed: int
) -> None:
    random, smoother = np.random.default_rng(seed), Smoother(frames)
    given_ids: set[int] = set()
    for index in range(4):
        labels = random.integers(0, 19, (rows, columns), np.uint8)
        before = labels.copy()
        gray = random.integers(0, 256, (height, width), np.uint8)
        steady = smoother.steady(video(gray), labels, index / 30)
        given_ids |= set(np.unique(labels).tolist())
        assert steady.shape == labels.shape
        assert steady.dtype == np.uint8
        assert (labels == before).all()
        assert set(np.unique(steady).tolist()) <= given_ids


@pytest.mark.parametrize("frames", [0, -1, MOST_FRAMES + 1])
def test_strengths_outside_the_limits_are_refused(frames: int) -> None:
    with pytest.raises(UsageError, match=f"1 to {MOST_FRAMES}"):
        Smoother(frames)


def test_what_the_network_gave_is_kept_beside_and_the_time_is_counted() -> None:
    smoother, picture = Smoother(3), video(texture(11)[:, :WIDTH])
    for index in range(2):
        labels = plain(CAR if index else ROAD)
        item = Seen(Frame(index, picture, index, Fraction(1, 30)), labels, labels)
        (ready,) = smoother.push(item)
    assert (ready.raw == CAR).all()
    assert (ready.labels == ROAD).mean() > 0.95
    assert ready.stages_ms["postprocess"] > 0
    assert 1 < DEFAULT_FRAMES <= MOST_FRAMES


def test_the_loop_steadies_what_its_outputs_get() -> None:
    """Gray frames rise by one level each, "bright" from 128 on: the picture hardly changes."""
    sink = ListSink()
    Pipeline(
        GraySource(200),
        BrightnessEngine(),
        None,
        [sink],
        refiner=Smoother(5),
        flow=FlowOptions(warmup=0),
    ).run()
    assert [item.frame.index for item in sink.items] == list(range(200))
    first = next(item.frame.index for item in sink.items if item.labels.all())
    assert 128 <= first <= 132
