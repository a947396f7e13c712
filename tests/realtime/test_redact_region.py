"""Where a frame is covered: margin, hold, sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.realtime.redact_region import HELD_FRAMES, SIZES, Regions, highest_of
from tests.realtime.parts import U8

PERSON, WIDTH, HEIGHT = 11, 1280, 720


def person(rows: slice = slice(240, 272), columns: slice = slice(240, 272), size: int = 512) -> U8:
    labels = np.zeros((size, size), np.uint8)
    labels[rows, columns] = PERSON
    return labels


NOBODY = person(slice(0), slice(0))


def regions(**options: float) -> Regions:
    return Regions((PERSON,), **options)


def test_a_detection_is_covered_with_its_margin_and_nothing_else_is() -> None:
    found = regions(margin=0.05).update(person(), WIDTH, HEIGHT, 0.0)
    assert found.shape == (256, 256)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    # 0.05 of 720 rows is 36 pixels: 12.8 of 256 rows, 7.2 of 256 columns
    assert 120 - 15 <= rows[0] <= 120 - 12
    assert 135 + 12 <= rows[-1] <= 135 + 15
    assert 120 - 10 <= columns[0] <= 120 - 7
    assert 135 + 7 <= columns[-1] <= 135 + 10
    assert not regions().update(NOBODY, WIDTH, HEIGHT, 0.0).any()


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 700), st.integers(1, 1100)), st.integers(0, 2**32 - 1),
    st.floats(0, 0.25),
)  # fmt: skip
def test_no_detected_pixel_of_any_map_is_left_uncovered(
    shape: tuple[int, int], seed: int, margin: float
) -> None:
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    rows, columns = random.integers(0, shape[0], 5), random.integers(0, shape[1], 5)
    labels[rows, columns] = PERSON
    # seen at the map's own size, where a place of the grid is a whole number of pixels
    found = regions(margin=margin).update(labels, shape[1], shape[0], 0.0)
    for row, column in zip(rows, columns, strict=True):
        place = (
            min(int((row + 0.5) * found.shape[0] / shape[0]), found.shape[0] - 1),
            min(int((column + 0.5) * found.shape[1] / shape[1]), found.shape[1] - 1),
        )
        assert found[place]


@pytest.mark.parametrize("fps", [60, 25, 4])
def test_what_is_not_found_again_stays_covered_for_a_while_and_not_for_ever(fps: int) -> None:
    held = regions(hold_s=0.5)
    first = held.update(person(), WIDTH, HEIGHT, 0.0)
    covered = []
    for index in range(1, 2 * fps + 10):
        found = held.update(NOBODY, WIDTH, HEIGHT, index / fps)
        covered.append(bool(found.any()))
        if found.any():
            assert (found[first > 0] > 0).all()
    lasted = covered.index(False)
    assert not any(covered[lasted:])
    assert lasted >= HELD_FRAMES - 1
    assert 0.4 <= (lasted + 1) / fps <= 0.6 or lasted == HELD_FRAMES - 1


def test_a_missed_frame_now_and_then_uncovers_nobody() -> None:
    held = regions()
    for index in range(60):
        labels = NOBODY if index % 3 == 2 else person()
        found = held.update(labels, WIDTH, HEIGHT, index / 30)
        assert found[120:136, 120:136].all()


def test_somebody_who_moves_is_covered_while_missed() -> None:
    """A walker of 150 rows, two body heights a second, found in every second frame only."""
    held = regions()
    for index in range(40):
        left = 100 + round(index * 10 * 512 / WIDTH)
        now = person(slice(200, 300), slice(left, left + 20))
        found = held.update(NOBODY if index % 2 else now, WIDTH, HEIGHT, index / 30)
        seen = found.repeat(2, 0).repeat(2, 1)
        assert seen[now > 0].all()


def test_the_later_part_of_a_hold_has_twice_the_margin() -> None:
    held = regions(hold_s=0.5, margin=0.04)
    areas = [np.count_nonzero(held.update(person(), WIDTH, HEIGHT, 0.0))]
    areas += [
        np.count_nonzero(held.update(NOBODY, WIDTH, HEIGHT, index / 30)) for index in range(1, 12)
    ]
    assert areas[2] == areas[0]
    assert areas[-1] > 1.5 * areas[0]


def test_a_hold_of_nothing_covers_the_frame_alone() -> None:
    held = regions(hold_s=0.0)
    assert held.update(person(), WIDTH, HEIGHT, 0.0).any()
    assert not held.update(NOBODY, WIDTH, HEIGHT, 0.04).any()


def test_times_that_stand_still_or_jump_back_neither_hold_for_ever_nor_uncover_at_once() -> None:
    held = regions()
    held.update(person(), WIDTH, HEIGHT, 100.0)
    covered = [held.update(NOBODY, WIDTH, HEIGHT, 3.0).any() for _ in range(40)]
    assert covered[: HELD_FRAMES - 1] == [True] * (HELD_FRAMES - 1)
    assert not covered[-1]


def test_another_size_of_frame_or_map_begins_anew() -> None:
    held = regions()
    held.update(person(), WIDTH, HEIGHT, 0.0)
    assert held.update(person(size=1024), WIDTH, HEIGHT, 0.04).any()
    assert held.update(person(), 640, 360, 0.08).any()


def test_who_appears_was_there_before() -> None:
    held = regions()
    held.update(NOBODY, WIDTH, HEIGHT, 0.0)
    assert held.before() is None
    held.update(person(), WIDTH, HEIGHT, 0.04)
    before = held.before()
    assert before is not None
    assert before[120:136, 120:136].all()
    held.update(person(), WIDTH, HEIGHT, 0.08)
    assert held.before() is None, "known by now"


@pytest.mark.parametrize("rows", [4, 20, 60, 130, 300, 512])
def test_sizes_say_how_high_a_detection_is(rows: int) -> None:
    found = regions(margin=0.0).update(person(slice(0, rows)), WIDTH, HEIGHT, 0.0)
    size = int(found.max())
    height_px = rows * HEIGHT / 512
    assert 1 <= size <= SIZES
    assert height_px <= highest_of(size, HEIGHT) * 1.05
    assert size == 1 or height_px > highest_of(size - 1, HEIGHT) * 0.9
