"""What holds for every test."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import av  # noqa: F401  before any test imports cv2: see realtime/sources/screen.py
import pytest
from hypothesis import HealthCheck, settings

with contextlib.suppress(ImportError):
    # Before any test imports TensorFlow: see realtime/web/webrtc.py.
    import pylibsrtp  # noqa: F401


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a run inside the test process does to logging, so that the next test sees it."""
    logger = logging.getLogger("rtseg")
    before = logger.level, logger.propagate, logger.handlers[:]
    yield
    logger.level, logger.propagate, logger.handlers[:] = before
    logger.setLevel(before[0])  # clears the cache of levels


# No timed assertions: a slow machine is no fault of an example.
settings.register_profile(
    "rtseg",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    # The same examples in every run of CI: what it says is about the change.
    derandomize=os.environ.get("CI", "") not in ("", "0", "false"),
)
settings.load_profile("rtseg")
