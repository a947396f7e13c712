from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.engines.labels import CITYSCAPES
from rtseg.models.paste import GROUPS, paste_things

THINGS = [CITYSCAPES.index(name) for group in GROUPS for name in group]
ROAD, CAR, RIDER, BICYCLE = (CITYSCAPES.index(n) for n in ("road", "car", "rider", "bicycle"))
View = tuple[NDArray[np.uint8], NDArray[np.uint8], "NDArray[np.uint8] | None"]


def view(number: int, label: NDArray[np.uint8], taught: bool) -> View:
    """A view whose every pixel and cell tells the view's number."""
    side = label.shape[0]
    soft = np.full((19, side // 4, side // 4), number + 1, np.uint8) if taught else None
    return np.full((side, side, 3), number, np.uint8), label, soft


def test_things_are_the_people_and_vehicles_of_the_table() -> None:
    moving = [i for i, c in enumerate(CITYSCAPES.categories) if c in ("human", "vehicle")]
    assert sorted(THINGS) == moving


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=2, max_size=4))
def test_only_things_move_and_bring_image_label_and_teacher(seed: int, taught: list[bool]) -> None:
    draw = np.random.default_rng(seed + 1)
    views = [
        view(
            number, np.kron(draw.integers(0, 20, (5, 5)), np.ones((8, 8), int)).astype(np.uint8), t
        )
        for number, t in enumerate(taught)
    ]
    before = [tuple(None if part is None else part.copy() for part in one) for one in views]
    for row, (image, label, soft) in enumerate(paste_things(views, np.random.default_rng(seed), 1)):
        own = image[..., 0] == row
        assert np.array_equal(label[own], views[row][1][own])
        others = np.unique(image[~own])
        assert len(others) <= 1
        for donor in others:
            theirs = views[donor][1]
            assert np.array_equal(label[~own], theirs[~own])
            taken = set(np.unique(label[~own]).tolist())
            assert taken <= set(THINGS)
            # Whole classes move: none of their pixels stays behind.
            assert np.array_equal(~own, np.isin(theirs, list(taken)))
            for group in GROUPS:
                ids = {CITYSCAPES.index(name) for name in group} & set(np.unique(theirs).tolist())
                assert ids <= taken or not ids & taken
        if soft is None:
            assert not taught[row]
            assert not any(taught[donor] for donor in others)
            continue
        # Labels change in steps of 8 pixels, so every cell is of one view.
        origin = image[::4, ::4, 0]
        expected = np.where(taught, np.arange(1, len(views) + 1), 0)[origin]
        assert np.array_equal(soft, np.broadcast_to(expected, soft.shape))
    for one, kept in zip(views, before, strict=True):
        for part, old in zip(one, kept, strict=True):
            assert (part is None and old is None) or np.array_equal(part, old)


def test_a_teachers_cell_on_an_outline_teaches_nothing() -> None:
    theirs = np.full((16, 16), ROAD, np.uint8)
    theirs[2:12, 4:12] = CAR
    views = [view(0, np.full((16, 16), ROAD, np.uint8), True), view(1, theirs, True)]
    for seed in range(100):
        image, _, soft = paste_things(views, np.random.default_rng(seed), 1.0)[0]
        if (image == 1).any():
            break
    assert soft is not None
    assert soft[0].tolist() == [[1, 0, 0, 1], [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1]]


def test_a_rider_keeps_the_bicycle() -> None:
    theirs = np.full((16, 16), ROAD, np.uint8)
    theirs[4:8], theirs[8:12] = RIDER, BICYCLE
    views = [view(0, np.full((16, 16), ROAD, np.uint8), False), view(1, theirs, False)]
    seen = {
        tuple(np.unique(paste_things(views, np.random.default_rng(seed), 1.0)[0][1]).tolist())
        for seed in range(50)
    }
    assert seen == {(ROAD,), (ROAD, RIDER, BICYCLE)}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_to_paste_leaves_views_as_they_are(share: float) -> None:
    rng = np.random.default_rng(0)
    empty = view(0, np.full((16, 16), ROAD, np.uint8), True)
    assert paste_things([empty], rng, share)[0] is empty
    assert all(one is empty for one in paste_things([empty, empty], rng, share))
