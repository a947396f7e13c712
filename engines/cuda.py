"""Which NVIDIA GPU there is, asked of its driver; needs no CUDA package."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """A CUDA device.

    Attributes:
        name: as its driver gives it.
        compute_capability: as ``8.9``.
    """

    name: str
    compute_capability: str


@dataclass(frozen=True)
class NoGpu:
    """Why there is none, in one line, with what to do."""

    reason: str


def find_gpu(index: int = 0) -> Gpu | NoGpu:
    """Return the CUDA device of a number, or why it cannot be used."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return NoGpu(f"no NVIDIA driver on this machine ({_LIBRARY}): install it for your GPU")
    if code := driver.cuInit(0):
        return NoGpu(f"the NVIDIA driver finds no usable GPU (cuInit: error {code})")
    count = ctypes.c_int()
    if (code := driver.cuDeviceGetCount(ctypes.byref(count))) or index >= count.value:
        return NoGpu(f"there are {count.value} NVIDIA GPUs, numbered from 0. Received: {index}")
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    parts = (ctypes.c_int(), ctypes.c_int())
    code = (
        driver.cuDeviceGet(ctypes.byref(device), index)
        or driver.cuDeviceGetName(name, _NAME_BYTES, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(parts[0]), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(parts[1]), _MINOR, device)
    )
    if code:
        return NoGpu(f"the NVIDIA driver cannot describe GPU {index} (error {code})")
    return Gpu(name.value.decode(errors="replace"), f"{parts[0].value}.{parts[1].value}")


def leave_context() -> None:
    """Take the newest context off the calling thread's stack, if there is one."""
    ctypes.CDLL(_LIBRARY).cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
