from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.controls import KEYS, Controls
from rtseg.realtime.view import VIEWS, ViewOptions
from rtseg.realtime.web.commands import BadCommand, obey, view_state

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 30) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = ("key", "view", "alpha", "hud", "legend", "paused", "classes")
wishes = st.dictionaries(st.sampled_from(NAMES), values | st.sampled_from([*KEYS, *VIEWS]))


@given(st.text(max_size=60) | wishes.map(json.dumps))
def test_any_message_is_a_wish_or_means_nothing(message: str) -> None:
    controls = Controls(ViewOptions())
    with contextlib.suppress(BadCommand):
        obey(message, controls, 19)
    state = view_state(controls.options, 19)
    assert state["view"] in VIEWS
    assert 0 <= state["alpha"] <= 1
    assert all(0 <= index < 19 for index in state["classes"])
    json.dumps(state, allow_nan=False)


@given(wishes.filter(lambda wish: "key" not in wish and "paused" not in wish))
def test_a_message_is_done_whole_or_not_at_all(wish: dict[str, object]) -> None:
    controls = Controls(ViewOptions())
    before = controls.options
    try:
        obey(json.dumps(wish), controls, 19)
    except BadCommand:
        assert controls.options == before
    else:
        assert all(
            view_state(controls.options, 19)[name] == pytest.approx(value, abs=1e-3)
            for name, value in wish.items()
            if name in ("alpha", "hud", "legend")
        )


def test_views_that_may_not_be_switched_to() -> None:
    controls = Controls(ViewOptions(), views=("overlay", "mask"))
    with pytest.raises(BadCommand, match="overlay, mask"):
        obey('{"view": "side-by-side"}', controls, 19)


def test_all_classes_hidden_and_shown() -> None:
    controls = Controls(ViewOptions(ignore_classes=(3,)))
    obey('{"classes": []}', controls, 19)
    assert view_state(controls.options, 19)["classes"] == []
    obey(json.dumps({"classes": list(range(19))}), controls, 19)
    assert view_state(controls.options, 19)["classes"] == list(range(19))
