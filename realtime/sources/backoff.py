"""How long to wait before the next try: longer each time, up to a limit, never in step."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S = 0.5
LONGEST_S = 30.0

STEADY_S = 10.0
"""A connection that held this long lets the next back-off begin anew."""

HOPELESS = frozenset(
    {"AUTH_FAILED", "PERMISSION_DENIED", "CODEC_UNSUPPORTED", "PROTOCOL_UNSUPPORTED"}
)
"""What another try is unlikely to change, and repeated logins may lock an account."""

HOPELESS_TRIES = 3
"""How many refusals of one :data:`HOPELESS` kind in a row are the last."""


class Backoff:
    """Capped exponential back-off with jitter.

    The n-th wait (from 0) lies between half and all of ``min(longest_s, first_s · 2ⁿ)``, so
    that many readers of one server that restarts do not come back in the same moment.

    Args:
        first_s: the first wait at most, in seconds.
        longest_s: every wait at most, in seconds.
        draw: returns a number from 0 to 1; for tests.

    >>> [Backoff(draw=lambda: 1.0).next_s()]
    [0.5]
    """

    def __init__(
        self,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not 0 < first_s <= longest_s:
            raise ValueError(f"0 < first_s <= longest_s. Received: {first_s} and {longest_s}")
        self._first_s = first_s
        self._longest_s = longest_s
        self._draw = draw
        self._whole_s = first_s

    def next_s(self) -> float:
        """Return how long to wait now, in seconds; the next wait is longer."""
        whole_s = self._whole_s
        self._whole_s = min(self._longest_s, 2 * whole_s)
        return whole_s * (0.5 + 0.5 * self._draw())

    def reset(self) -> None:
        """Begin with the first wait again."""
        self._whole_s = self._first_s
