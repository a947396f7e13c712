"""Memory that the C library keeps for itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any


def give_back_memory() -> bool:
    """Return what is free inside the C library's heaps to the system; say if any was.

    glibc has a heap for each few threads and gives only their upper ends back. A decoder
    that is gone leaves holes in several of them, which the threads of the next one may not
    reuse: with each connection that was lost and made anew, resident memory rose by one to
    three MiB that nobody used. Takes milliseconds; does nothing with other C libraries.
    """
    trim = _malloc_trim()
    return trim is not None and bool(trim(0))


@cache
def _malloc_trim() -> Callable[[int], Any] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
