"""The kernels compiled for the host, and NumPy's own version of what they compute."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.kernels import BLOCK, SOURCE, blocks
from rtseg.engines.planes import YuvColours

U8 = NDArray[np.uint8]

# What CUDA C has and C++ has not. The threads of a grid run one after the other, backwards if
# asked, as no order is promised.
HOST = r"""
#include <math.h>
struct Place { unsigned x, y, z; };
static thread_local Place threadIdx, blockIdx, blockDim;
#define __global__
#define __device__
#include "KERNELS"

#define RUN(NAME, JOB)                                                                         \
  extern "C" unsigned long size_##NAME() { return sizeof(JOB); }                               \
  extern "C" void host_##NAME(unsigned gx, unsigned gy, unsigned bx, unsigned by,              \
                              const void *job, int backwards) {                                \
    blockDim = {bx, by, 1};                                                                    \
    unsigned width = gx * bx, count = width * gy * by;                                         \
    for (unsigned n = 0; n < count; n++) {                                                     \
      unsigned x = (backwards ? count - 1 - n : n) % width;                                    \
      unsigned y = (backwards ? count - 1 - n : n) / width;                                    \
      blockIdx = {x / bx, y / by, 0};                                                          \
      threadIdx = {x % bx, y % by, 0};                                                         \
      NAME(*(const JOB *)job);                                                                 \
    }                                                                                          \
  }
RUN(rtseg_resize, Resize)
RUN(rtseg_paint, Paint)
"""


def build_kernels(folder: Path) -> Path | None:
    """Compile the kernels as ``libkernels.so`` in a folder; None without a C++ compiler."""
    if shutil.which("g++") is None:
        return None
    source, library = folder / "kernels.cpp", folder / "libkernels.so"
    source.write_text(HOST.replace("KERNELS", str(SOURCE)))
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wno-unused-function")
    exact = ("-O2", "-ffp-contract=off", "-fsanitize=undefined", "-fsanitize-trap=undefined")
    if not _compiles(exact, folder):
        exact = exact[:2]
    subprocess.run(
        ["g++", "-shared", "-fPIC", *warnings, *exact, str(source), "-o", str(library)],
        check=True,
    )
    return library


def _compiles(options: tuple[str, ...], folder: Path) -> bool:
    empty = folder / "empty.cpp"
    empty.write_text("")
    command = ["g++", "-c", *options, str(empty), "-o", str(folder / "empty.o")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class HostKernels:
    """The kernels of a library that :func:`build_kernels` made."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.size_rtseg_resize.restype = ctypes.c_ulong
        self.library.size_rtseg_paint.restype = ctypes.c_ulong

    def size(self, name: str) -> int:
        """Return how large the structure is that a kernel takes, in bytes."""
        return int(getattr(self.library, f"size_{name}")())

    def run(
        self, name: str, width: int, height: int, job: NDArray[np.void], backwards: bool = False
    ) -> None:
        """Run a kernel that has width x height things to do."""
        record = job.tobytes()
        grid = [ctypes.c_uint(count) for count in (*blocks(width, height), *BLOCK)]
        getattr(self.library, f"host_{name}")(
            *grid, ctypes.c_char_p(record), ctypes.c_int(backwards)
        )


def resample(lines: NDArray[np.float64], target: int) -> NDArray[np.float64]:
    """Resize each row: means of areas where it shrinks, linear where it enlarges."""
    source = lines.shape[1]
    if source < target:
        centres = (np.arange(target) + 0.5) * source / target
        places = np.arange(source) + 0.5
        return np.stack([np.interp(centres, places, line) for line in lines])
    edges = np.arange(target + 1) * source / target
    sums = np.pad(np.cumsum(lines, axis=1), ((0, 0), (1, 0)))
    until = np.stack([np.interp(edges, np.arange(source + 1), line) for line in sums])
    return np.diff(until, axis=1) * target / source


def resize_reference(
    y: U8, u: U8, v: U8, colours: YuvColours, height: int, width: int
) -> NDArray[np.float64]:
    """Return what ``rtseg_resize`` computes, before it is rounded."""
    black, luma, red_v, green_u, green_v, blue_u = colours.to_rgb()

    def scaled(plane: U8, columns: int) -> NDArray[np.float64]:
        return resample(resample(plane.astype(float), columns).T, height).T

    luma_plane = scaled(y, width)
    few = [scaled(plane, (width + 1) // 2) - 128 for plane in (u, v)]
    blue, red = (np.repeat(plane, 2, axis=1)[:, :width] for plane in few)
    grey = luma * (luma_plane - black)
    rgb = (grey + red_v * red, grey + green_u * blue + green_v * red, grey + blue_u * blue)
    return np.clip(np.stack(rgb, axis=-1), 0, 255)


def guarded(count: int) -> U8:
    """Return bytes that end where the process may neither read nor write."""
    pages = -(-count // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    everything = np.frombuffer(memory, np.uint8)
    after = everything.ctypes.data + pages * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(after), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return everything[pages * mmap.PAGESIZE - count : pages * mmap.PAGESIZE]
