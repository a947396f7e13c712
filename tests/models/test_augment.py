from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.models.augment import (
    colour_matrix,
    degrade,
    draw_view,
    geometry,
    join_views,
    mix_views,
    view_matrix,
)
from rtseg.models.config import AugmentConfig

seeds = st.integers(0, 2**32 - 1)


@given(
    st.sampled_from([(128, 256), (512, 1024), (360, 480)]),
    st.sampled_from([(1024, 2048), (256, 512)]),
    st.floats(100, 900),
    st.floats(100, 900),
    st.booleans(),
)
def test_image_and_label_of_other_sizes_meet_in_the_view(
    image: tuple[int, int], label: tuple[int, int], sx: float, sy: float, flip: bool
) -> None:
    """The same place of the frame lands on the same place of the view from both."""
    for u, v in ((0.1, 0.2), (0.5, 0.5), (0.9, 0.7)):
        places = []
        for height, width in (image, label):
            matrix = view_matrix((height, width), sx, sy, 13.0, -7.0, flip)
            pixel = np.array([u * width - 0.5, v * height - 0.5, 1.0])
            places.append(matrix @ pixel)
        assert np.allclose(places[0], places[1], atol=1e-6)
        across = (1 - u if flip else u) * sx
        assert np.allclose(places[0], [across - 13.5, v * sy + 6.5])


@given(seeds, st.sampled_from([64, 256, 512]))
def test_a_view_lies_in_the_frame_or_around_it(seed: int, crop: int) -> None:
    rng = np.random.default_rng(seed)
    sx, sy, x0, y0, _ = geometry(rng, AugmentConfig(), 512, crop)
    for scale, start in ((sx, x0), (sy, y0)):
        assert 512 * 0.7 / 1.3 <= scale <= 512 * 1.6 * 1.3
        assert min(0.0, scale - crop) <= start <= max(0.0, scale - crop)


@settings(deadline=None)
@given(seeds, st.booleans())
def test_frames_may_be_squashed_to_any_shape(seed: int, focused: bool) -> None:
    """And views cut out of any shape. Sizes are width and height."""
    rng = np.random.default_rng(seed)
    config = AugmentConfig(aspect=1.0)
    focus = (0.5, 0.5) if focused else None
    sx, sy, x0, y0, _ = geometry(rng, config, (640, 448), (480, 320), focus)
    assert sx / sy == pytest.approx(640 / 448)
    assert min(0.0, sx - 480) <= x0 <= max(0.0, sx - 480)
    assert min(0.0, sy - 320) <= y0 <= max(0.0, sy - 320)
    image, label = np.zeros((128, 256, 3), np.uint8), np.zeros((128, 256), np.uint8)
    soft = np.full((19, 32, 64), 13, np.uint8)
    view, target, moved = draw_view(
        image, label, rng, config, nominal=(160, 96), crop=(128, 64), sharp=True, soft=soft
    )
    assert view.shape == (64, 128, 3)
    assert target.shape == (64, 128)
    assert moved is not None
    assert moved.shape == (19, 16, 32)


@given(seeds)
def test_grey_stays_grey_under_a_colour_change(seed: int) -> None:
    matrix = colour_matrix(np.random.default_rng(seed), AugmentConfig())
    result = matrix @ np.array([90.0, 90.0, 90.0, 1.0])
    assert np.ptp(result) < 1e-3


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_views_have_their_size_and_type(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (40, 80, 3), np.uint8)
    label = rng.integers(0, 19, (20, 40), np.uint8)
    always = AugmentConfig(blur=1, jpeg=1, noise=1)
    view, target, _ = draw_view(image, label, rng, always, nominal=96, crop=64, sharp=True)
    assert view.shape == (64, 64, 3)
    assert target.shape == (64, 64)
    assert view.dtype == target.dtype == np.uint8
    assert set(np.unique(target)) <= {*range(19), 255}


def test_nothing_is_degraded_at_probability_zero() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    never = AugmentConfig(blur=0, jpeg=0, noise=0)
    assert np.array_equal(degrade(image, np.random.default_rng(1), never), image)


@given(seeds, st.integers(2, 5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_mixed_views_take_image_label_and_teacher_from_the_same_place(
    seed: int, count: int, taught: list[bool]
) -> None:
    """Each view is one number throughout, so what is mixed tells where it came from."""
    views = [
        (
            np.full((32, 32, 3), number, np.uint8),
            np.full((32, 32), number, np.uint8),
            np.full((19, 8, 8), number + 1, np.uint8) if taught[number] else None,
        )
        for number in range(count)
    ]
    before = [tuple(None if part is None else part.copy() for part in view) for view in views]
    mixed = mix_views(views, np.random.default_rng(seed), 1.0)
    for number, (image, label, soft) in enumerate(mixed):
        assert np.array_equal(image, np.repeat(label[..., None], 3, 2))
        there = set(np.unique(label).tolist())
        assert number in there
        assert len(there) == 2
        part = (label != number).mean()
        assert 0.05 < part < 0.6
        if soft is None:
            assert not any(taught[other] for other in there)
            continue
        cells = label[::4, ::4]
        expected = np.where([taught[other] for other in range(5)], np.arange(1, 6), 0)[cells]
        assert np.array_equal(soft, np.broadcast_to(expected, soft.shape))
    for view, kept in zip(views, before, strict=True):
        for part, old in zip(view, kept, strict=True):
            assert (part is None and old is None) or np.array_equal(part, old)


def test_views_are_not_mixed_with_themselves_or_without_a_share() -> None:
    view = (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8), None)
    rng = np.random.default_rng(0)
    assert mix_views([view], rng, 1.0)[0] is view
    assert all(one is view for one in mix_views([view, view, view], rng, 0.0))


@settings(max_examples=20, deadline=None)
@given(taught=st.lists(st.booleans(), min_size=4, max_size=4))
def test_joined_views_keep_image_label_and_teacher_together(taught: list[bool]) -> None:
    views = [
        (
            np.full((32, 32, 3), number, np.uint8),
            np.full((32, 32), number, np.uint8),
            np.full((19, 8, 8), number + 1, np.uint8) if taught[number] else None,
        )
        for number in range(4)
    ]
    image, label, soft = join_views(views)
    assert np.array_equal(label, np.repeat(np.repeat([[0, 1], [2, 3]], 32, 0), 32, 1))
    assert np.array_equal(image, np.repeat(label[..., None], 3, 2))
    if not any(taught):
        assert soft is None
        return
    expected = np.where(taught, np.arange(1, 5), 0)[label[::4, ::4]]
    assert soft is not None
    assert np.array_equal(soft, np.broadcast_to(expected, (19, 16, 16)))
