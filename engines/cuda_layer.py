"""The little of CUDA that an engine needs, whichever Python package brings it.

Streams, events and graphs are plain numbers (their driver handles), device memory is an
address. Two packages fit: NVIDIA's cuda-python (:mod:`rtseg.engines.cuda_python`), which can
also capture graphs, and PyCUDA (:mod:`rtseg.engines.cuda_pycuda`). Both work in the GPU's
primary context, which TensorRT uses, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.cuda import Gpu, NoGpu, find_gpu
from rtseg.engines.errors import EngineError

U8 = NDArray[np.uint8]
Package = Literal["cuda-python", "pycuda"]

PACKAGES: tuple[Package, ...] = ("cuda-python", "pycuda")
INSTALL = "pip install cuda-bindings (or pycuda, which needs nvcc to install)"

OUT_OF_MEMORY = 2
# Errors after which the driver answers every call of the process with the same error.
_LOST = frozenset({46, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})


class Cuda(Protocol):
    """One GPU, opened. Every call but ``current`` and ``close`` needs ``current`` around it.

    What fails raises :class:`EngineError`: ``NO_MEMORY``, ``DEVICE_LOST`` or
    ``ENGINE_FAILED``.
    """

    @property
    def gpu(self) -> Gpu:
        """Which one it is."""

    @property
    def package(self) -> str:
        """The Python package behind it, with its version."""

    @property
    def captures(self) -> bool:
        """Whether :meth:`capture` is there."""

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU's primary context the calling thread's."""

    def allocate(self, count: int) -> int:
        """Return the address of ``count`` bytes on the GPU."""

    def free(self, address: int) -> None:
        """Give memory of the GPU back."""

    def pin(self, count: int) -> U8:
        """Return ``count`` bytes of the host that the GPU can copy by itself."""

    def unpin(self, array: U8) -> None:
        """Give them back; the array must not be used any more."""

    def stream(self) -> int:
        """Return a new stream."""

    def end_stream(self, stream: int) -> None:
        """Destroy a stream."""

    def event(self) -> int:
        """Return a new event that keeps the time, and that a thread sleeps for."""

    def end_event(self, event: int) -> None:
        """Destroy an event."""

    def upload(self, address: int, array: U8, stream: int) -> None:
        """Copy pinned bytes to the GPU when the stream gets there."""

    def download(self, array: U8, address: int, stream: int) -> None:
        """Copy bytes of the GPU to pinned ones when the stream gets there."""

    def record(self, event: int, stream: int) -> None:
        """Let an event happen when the stream gets there."""

    def wait(self, event: int) -> None:
        """Wait until an event has happened."""

    def elapsed_ms(self, begin: int, end: int) -> float:
        """Return the time between two events that have happened, in milliseconds."""

    def capture(self, work: Callable[[], None], stream: int) -> int:
        """Return a graph of what ``work`` hands to the stream; nothing of it is done."""

    def launch(self, graph: int, stream: int) -> None:
        """Hand a graph to a stream."""

    def end_graph(self, graph: int) -> None:
        """Destroy a graph."""

    def load(self, source: str) -> int:
        """Compile CUDA C for the GPU and load it; return the module.

        Raises:
            EngineError: ``BACKEND_MISSING`` where the package finds no compiler.
        """

    def unload(self, module: int) -> None:
        """Unload a module; its kernels must not be used any more."""

    def kernel(self, module: int, name: str) -> int:
        """Return a kernel of a module that takes one structure."""

    def run(
        self, kernel: int, grid: tuple[int, int], block: tuple[int, int], job: bytes, stream: int
    ) -> None:
        """Run a kernel when the stream gets there.

        Args:
            kernel: what :meth:`kernel` gave.
            grid: blocks, horizontally and vertically.
            block: threads of a block, likewise.
            job: the structure, copied at once.
            stream: which stream.
        """

    def memory(self) -> tuple[int, int]:
        """Return how many bytes of the GPU are free, and how many it has."""

    def close(self) -> None:
        """Let the primary context go."""


def open_cuda(index: int = 0, package: Package | None = None) -> Cuda:
    """Open a GPU.

    Args:
        index: its number.
        package: by which Python package; None takes the first that is installed.

    Raises:
        EngineError: ``BACKEND_MISSING`` where there is no GPU or no package.
    """
    found = find_gpu(index)
    if isinstance(found, NoGpu):
        raise EngineError(found.reason, reason="BACKEND_MISSING")
    why = []
    for name in PACKAGES if package is None else (package,):
        try:
            return _open(name, index, found)
        except ImportError as error:
            why.append(f"{name}: {' '.join(str(error).split())}")
    raise EngineError(
        f"no package to talk to the GPU with ({'; '.join(why)}): {INSTALL}",
        reason="BACKEND_MISSING",
    )


def find_package() -> str:
    """Return why no CUDA package can be used, in one line; empty where one can."""
    from importlib.util import find_spec

    for module in ("cuda.bindings", "pycuda"):
        try:
            if find_spec(module) is not None:
                return ""
        except (ImportError, ValueError):
            continue
    return f"no package to talk to the GPU with: {INSTALL}"


def device_error(what: str, code: int, name: str) -> EngineError:
    """Return the error for a driver's error code.

    Args:
        what: the call that failed.
        code: the driver's ``CUresult``.
        name: its name.
    """
    if code == OUT_OF_MEMORY:
        return EngineError(
            f"the GPU's memory is full ({what}): end other programs on it, or take fewer "
            "requests or a smaller largest batch",
            reason="NO_MEMORY",
        )
    if code in _LOST:
        return EngineError(
            f"the GPU failed ({what}: {name}) and is lost to this process: start anew",
            reason="DEVICE_LOST",
        )
    return EngineError(f"the GPU failed ({what}: {name})", reason="ENGINE_FAILED")


def _open(name: Package, index: int, gpu: Gpu) -> Cuda:
    if name == "cuda-python":
        from rtseg.engines.cuda_python import CudaPython

        return CudaPython(index, gpu)
    from rtseg.engines.cuda_pycuda import PyCuda

    return PyCuda(index, gpu)
