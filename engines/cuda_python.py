"""CUDA through NVIDIA's cuda-python (``cuda.bindings``), with graphs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from rtseg.engines.cuda import Gpu
from rtseg.engines.cuda_layer import U8, device_error
from rtseg.engines.errors import EngineError
from rtseg.engines.nvrtc import compile_cuda, compiler_version

FOR_CUDA_12 = (
    "pip uninstall nvidia-cuda-nvrtc; pip install 'cuda-bindings<13' nvidia-cuda-nvrtc-cu12"
)
_BLOCKING_SYNC = 1  # CU_EVENT_BLOCKING_SYNC: a waiting thread sleeps


class CudaPython:
    """A GPU's primary context; see :class:`rtseg.engines.cuda_layer.Cuda`.

    Args:
        index: number of the GPU.
        gpu: what the driver says of it.

    Raises:
        ImportError: the package is not installed.
        EngineError: the driver refuses.
    """

    captures = True

    def __init__(self, index: int, gpu: Gpu) -> None:
        from cuda.bindings import __version__, driver

        self._driver: Any = driver
        self.gpu = gpu
        self.package = f"cuda-python {__version__}"
        self._call("cuInit", 0)
        self._device = self._call("cuDeviceGet", index)
        self._context: Any = self._call("cuDevicePrimaryCtxRetain", self._device)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU's primary context the calling thread's."""
        if self._context is None:
            raise EngineError("the GPU is closed", reason="ENGINE_CLOSED")
        self._call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._driver.cuCtxPopCurrent()  # what failed within matters more than this

    def allocate(self, count: int) -> int:
        """Return the address of ``count`` bytes on the GPU."""
        return int(self._call("cuMemAlloc", count))

    def free(self, address: int) -> None:
        """Give memory of the GPU back."""
        self._call("cuMemFree", address)

    def pin(self, count: int) -> U8:
        """Return ``count`` bytes of the host that the GPU can copy by itself."""
        address = int(self._call("cuMemHostAlloc", count, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address))

    def unpin(self, array: U8) -> None:
        """Give them back."""
        self._call("cuMemFreeHost", array.ctypes.data)

    def stream(self) -> int:
        """Return a new stream, which does not wait for the default one."""
        return int(self._call("cuStreamCreate", 1))  # CU_STREAM_NON_BLOCKING

    def end_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._call("cuStreamDestroy", stream)

    def event(self) -> int:
        """Return a new event."""
        return int(self._call("cuEventCreate", _BLOCKING_SYNC))

    def end_event(self, event: int) -> None:
        """Destroy an event."""
        self._call("cuEventDestroy", event)

    def upload(self, address: int, array: U8, stream: int) -> None:
        """Copy pinned bytes to the GPU when the stream gets there."""
        self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, stream)

    def download(self, array: U8, address: int, stream: int) -> None:
        """Copy bytes of the GPU to pinned ones when the stream gets there."""
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream)

    def record(self, event: int, stream: int) -> None:
        """Let an event happen when the stream gets there."""
        self._call("cuEventRecord", event, stream)

    def wait(self, event: int) -> None:
        """Wait until an event has happened."""
        self._call("cuEventSynchronize", event)

    def elapsed_ms(self, begin: int, end: int) -> float:
        """Return the time between two events, in milliseconds."""
        return float(self._call("cuEventElapsedTime", begin, end))

    def capture(self, work: Callable[[], None], stream: int) -> int:
        """Return a graph of what ``work`` hands to the stream."""
        # By thread: other threads may allocate meanwhile.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)
        try:
            work()
        except BaseException:
            with suppress(EngineError):  # leaves the stream as it was
                self._call("cuGraphDestroy", self._call("cuStreamEndCapture", stream))
            raise
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return int(self._call("cuGraphInstantiate", graph, 0))
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Hand a graph to a stream."""
        self._call("cuGraphLaunch", graph, stream)

    def end_graph(self, graph: int) -> None:
        """Destroy a graph."""
        self._call("cuGraphExecDestroy", graph)

    def load(self, source: str) -> int:
        """Compile CUDA C with NVRTC and load it; return the module."""
        driver, compiler = int(self._call("cuDriverGetVersion")) // 1000, compiler_version()[0]
        if compiler > driver:
            raise EngineError(
                f"the driver is of CUDA {driver} and does not take what NVRTC of CUDA {compiler} "
                f"compiles: {FOR_CUDA_12}, or a newer driver",
                reason="BACKEND_MISSING",
            )
        return int(
            self._call("cuModuleLoadData", compile_cuda(source, self.gpu.compute_capability))
        )

    def unload(self, module: int) -> None:
        """Unload a module."""
        self._call("cuModuleUnload", module)

    def kernel(self, module: int, name: str) -> int:
        """Return a kernel of a module."""
        return int(self._call("cuModuleGetFunction", module, name.encode()))

    def run(
        self, kernel: int, grid: tuple[int, int], block: tuple[int, int], job: bytes, stream: int
    ) -> None:
        """Run a kernel when the stream gets there."""
        copy = ctypes.create_string_buffer(job, len(job))
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(copy))
        at = ctypes.addressof(arguments)
        self._call("cuLaunchKernel", kernel, *grid, 1, *block, 1, 0, stream, at, 0)

    def memory(self) -> tuple[int, int]:
        """Return how many bytes of the GPU are free, and how many it has."""
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def close(self) -> None:
        """Let the primary context go. May be called more than once."""
        if self._context is not None:
            self._context = None
            self._call("cuDevicePrimaryCtxRelease", self._device)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the driver; return what it gives besides its error code."""
        try:
            code, *results = getattr(self._driver, name)(*arguments)
        except RuntimeError as error:  # the package's own: no driver, or one without this call
            raise EngineError(
                f"the NVIDIA driver does not know {name}: {' '.join(str(error).split())}",
                reason="ENGINE_UNSUPPORTED",
            ) from error
        if int(code):
            raise device_error(name, int(code), str(getattr(code, "name", code)))
        if len(results) > 1:
            return tuple(results)
        return results[0] if results else None
