"""Running a few lines as somebody who may not read everything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unprivileged() -> Iterator[None]:
    """Give up root's right to read everything, for a while."""

    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)  # os.access asks for the real one
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
