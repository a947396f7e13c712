from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.asked import switchable_views
from rtseg.realtime.controls import KEYS, Controls
from rtseg.realtime.view import VIEWS, ViewOptions


def test_tab_goes_round_the_views():
    controls = Controls()
    seen = [controls.options.view]
    for _ in VIEWS:
        assert controls.press("tab")
        seen.append(controls.options.view)
    assert seen == [*VIEWS, VIEWS[0]]


def test_tab_keeps_to_the_views_it_was_given():
    controls = Controls(ViewOptions(view="side-by-side"), ["side-by-side"])
    controls.press("tab")
    assert controls.options.view == "side-by-side"


def test_steps_count_only_while_paused():
    controls = Controls()
    controls.press(".")
    assert not controls.take_step()
    controls.press("space")
    assert controls.paused
    controls.press(".")
    controls.press(".")
    assert controls.take_step()
    assert controls.take_step()
    assert not controls.take_step()
    controls.press(".")
    controls.press("space")
    assert not controls.paused
    assert not controls.take_step()


def test_snapshots_are_taken_once():
    controls = Controls()
    controls.press("s")
    assert controls.take_snapshot()
    assert not controls.take_snapshot()


def test_q_escape_and_the_window_quit():
    for act in (lambda c: c.press("q"), lambda c: c.press("esc"), lambda c: c.request_quit()):
        controls = Controls()
        assert not controls.quit
        act(controls)
        assert controls.quit


@given(st.lists(st.one_of(st.sampled_from(list(KEYS)), st.text(max_size=2))))
def test_any_keys_leave_a_valid_view(keys):
    controls = Controls(ViewOptions(alpha=0.55))
    for key in keys:
        assert controls.press(key) == (key in KEYS)
    assert 0 <= controls.options.alpha <= 1


@pytest.mark.parametrize(
    ("outputs", "wide"),
    [
        (["window"], True),
        (["web:8080", "null"], True),
        (["web:8080", "seg.mp4"], False),
        (["null"], True),
    ],
)
def test_side_by_side_is_to_be_had_where_no_picture_has_a_fixed_size(
    outputs: list[str], wide: bool
) -> None:
    assert ("side-by-side" in switchable_views(ViewOptions(), outputs)) is wide
