from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from rtseg.realtime.memory import give_back_memory

GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version") if os.name == "posix" else False


def test_it_may_be_called_at_any_time() -> None:
    assert isinstance(give_back_memory(), bool)
    give_back_memory()


@pytest.mark.skipif(not GLIBC, reason="only glibc keeps heaps that can be trimmed")
def test_holes_in_the_heap_go_back_to_the_system() -> None:
    """32 MiB of freed pieces, each below a small one that stays."""
    script = """
import ctypes, psutil
from rtseg.realtime.memory import give_back_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
pieces = []
for _ in range(512):
    piece = libc.malloc(1 << 16)
    ctypes.memset(piece, 1, 1 << 16)
    libc.malloc(5000)  # stays, so that the heap cannot simply end lower
    pieces.append(piece)
for piece in pieces:
    libc.free(piece)
before = psutil.Process().memory_info().rss
assert give_back_memory()
print((before - psutil.Process().memory_info().rss) / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 16
