"""What the user says about the live page, and what the run hands to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from rtseg.engines.labels import ClassTable
from rtseg.realtime.hud import HudText
from rtseg.realtime.profile import Profiler
from rtseg.realtime.web.access import check_token
from rtseg.realtime.web.state import Streams


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """Options of the live page.

    Attributes:
        token: what visitors must know; None makes one where the address is not of this
            machine alone.
        profiler: the run's clocks and counters, or None for none.
        classes: names and colours in use, or None for the engine's own.
        streams: gives the health of every stream, or None where there is one source.
        hud: gives the HUD's text of now, for pictures that are painted anew while paused.
    """

    token: str | None = None
    profiler: Profiler | None = None
    classes: ClassTable | None = None
    streams: Streams | None = None
    hud: Callable[[], HudText | None] | None = None


def web_token(given: str | None) -> str | None:
    """Return the token for the live page: what was given, or ``RTSEG_WEB_TOKEN``, or None.

    The variable is for those who share a machine: arguments can be read by everybody on it.

    Raises:
        UsageError: a token that cannot be used.
    """
    token = given if given is not None else os.environ.get("RTSEG_WEB_TOKEN")
    return None if not token else check_token(token)
