"""What a page may ask of the loop: checked, then put into the controls that the window has."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rtseg.realtime.controls import KEYS, Controls
from rtseg.realtime.view import ViewOptions


class BadCommand(ValueError):
    """A message of a page that means nothing; the text says what is allowed."""


def obey(message: str, controls: Controls, class_count: int) -> None:
    """Do what one message of a page says.

    Messages are JSON objects with one or more of: ``key`` (a name of
    :data:`~rtseg.realtime.controls.KEYS`), ``view``, ``alpha`` (0..1), ``hud``, ``legend``,
    ``paused`` (true or false), ``classes`` (the ids that are coloured).

    Args:
        message: what came over the websocket.
        controls: where the wishes go.
        class_count: how many classes there are.

    Raises:
        BadCommand: it is none of these.
    """
    try:
        wishes = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise BadCommand("a message is a JSON object") from error
    if not isinstance(wishes, dict):
        raise BadCommand("a message is a JSON object")
    unknown = set(wishes) - {"key", "view", "alpha", "hud", "legend", "paused", "classes"}
    if unknown or not wishes:
        raise BadCommand("allowed: key, view, alpha, hud, legend, paused, classes")
    changes = _view_changes(wishes, controls, class_count)  # all is checked, then all is done
    key, paused = wishes.get("key"), wishes.get("paused")
    if key is not None and (not isinstance(key, str) or key not in KEYS):
        raise BadCommand(f"key is one of {', '.join(KEYS)}")
    if paused is not None and not isinstance(paused, bool):
        raise BadCommand("paused is true or false")
    if changes:
        controls.change(lambda now: dataclasses.replace(now, **changes))
    if paused is not None:
        controls.set_paused(paused)
    if key is not None:
        controls.press(key)


def _view_changes(wishes: dict[str, Any], controls: Controls, count: int) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "view" in wishes:
        if wishes["view"] not in controls.views:
            raise BadCommand(f"view is one of {', '.join(controls.views)}")
        changes["view"] = wishes["view"]
    if "alpha" in wishes:
        alpha = wishes["alpha"]
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
            raise BadCommand("alpha is a number from 0 to 1")
        changes["alpha"] = round(float(alpha), 3)
    for name in ("hud", "legend"):
        if name in wishes:
            if not isinstance(wishes[name], bool):
                raise BadCommand(f"{name} is true or false")
            changes[name] = wishes[name]
    if "classes" in wishes:
        ids = wishes["classes"]
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < count for i in ids):
            raise BadCommand(f"classes is a list of ids from 0 to {count - 1}")
        changes |= {"classes": tuple(sorted(set(ids))), "ignore_classes": ()}
    return changes


def view_state(options: ViewOptions, class_count: int) -> dict[str, Any]:
    """Return a view as pages take it."""
    return {
        "view": options.view,
        "alpha": options.alpha,
        "hud": options.hud,
        "legend": options.legend,
        "classes": list(options.shown(class_count)),
    }
