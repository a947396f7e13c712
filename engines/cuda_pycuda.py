"""CUDA through PyCUDA; it cannot capture graphs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np

from rtseg.engines.cuda import Gpu, leave_context
from rtseg.engines.cuda_layer import OUT_OF_MEMORY, U8, device_error
from rtseg.engines.errors import EngineError
from rtseg.engines.nvrtc import OPTIONS

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which PyCUDA has no name
_BLOCKING_SYNC = 1  # CU_EVENT_BLOCKING_SYNC
_LAUNCH_FAILED, _ILLEGAL_ADDRESS, _OTHER = 719, 700, 1
# PyCUDA tells errors apart by a handful of classes; the driver's words say the rest.
_LOST_WORDS = ("illegal", "misaligned", "launch failure", "uncorrectable", "unavailable")


class PyCuda:
    """A GPU's primary context; see :class:`rtseg.engines.cuda_layer.Cuda`.

    PyCUDA destroys streams and events with their objects, so they are kept by number here.

    Args:
        index: number of the GPU.
        gpu: what the driver says of it.

    Raises:
        ImportError: the package is not installed, or was built for another driver.
        EngineError: the driver refuses.
    """

    captures = False

    def __init__(self, index: int, gpu: Gpu) -> None:
        import pycuda
        import pycuda.driver as driver

        self._driver: Any = driver
        self.gpu = gpu
        self.package = f"pycuda {pycuda.VERSION_TEXT}"
        self._kept: dict[int, Any] = {}
        self._kernels: dict[int, list[int]] = {}
        self._thread = threading.get_ident()
        with self._named("init"):
            driver.init()
            # Unlike Device.make_context: the one that TensorRT's own calls use.
            self._context: Any = driver.Device(index).retain_primary_context()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU's primary context the calling thread's."""
        if self._context is None:
            raise EngineError("the GPU is closed", reason="ENGINE_CLOSED")
        with self._named("push"):
            self._context.push()
        try:
            yield
        finally:
            with suppress(self._driver.Error):  # what failed within matters more than this
                self._driver.Context.pop()

    def allocate(self, count: int) -> int:
        """Return the address of ``count`` bytes on the GPU."""
        with self._named("mem_alloc"):
            memory = self._driver.mem_alloc(count)
        return self._keep(int(memory), memory)

    def free(self, address: int) -> None:
        """Give memory of the GPU back."""
        with self._named("free"):
            self._kept.pop(address).free()

    def pin(self, count: int) -> U8:
        """Return ``count`` bytes of the host that the GPU can copy by itself."""
        with self._named("pagelocked_empty"):
            array: U8 = self._driver.pagelocked_empty(count, np.uint8)
        self._keep(array.ctypes.data, array)
        return array

    def unpin(self, array: U8) -> None:
        """Give them back."""
        with self._named("free"):
            self._kept.pop(array.ctypes.data).base.free()

    def stream(self) -> int:
        """Return a new stream, which does not wait for the default one."""
        with self._named("Stream"):
            stream = self._driver.Stream(_NON_BLOCKING)
        return self._keep(int(stream.handle), stream)

    def end_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._kept.pop(stream, None)

    def event(self) -> int:
        """Return a new event."""
        with self._named("Event"):
            event = self._driver.Event(_BLOCKING_SYNC)
        return self._keep(id(event), event)

    def end_event(self, event: int) -> None:
        """Destroy an event."""
        self._kept.pop(event, None)

    def upload(self, address: int, array: U8, stream: int) -> None:
        """Copy pinned bytes to the GPU when the stream gets there."""
        with self._named("memcpy_htod_async"):
            self._driver.memcpy_htod_async(address, array, self._kept[stream])

    def download(self, array: U8, address: int, stream: int) -> None:
        """Copy bytes of the GPU to pinned ones when the stream gets there."""
        with self._named("memcpy_dtoh_async"):
            self._driver.memcpy_dtoh_async(array, address, self._kept[stream])

    def record(self, event: int, stream: int) -> None:
        """Let an event happen when the stream gets there."""
        with self._named("Event.record"):
            self._kept[event].record(self._kept[stream])

    def wait(self, event: int) -> None:
        """Wait until an event has happened."""
        with self._named("Event.synchronize"):
            self._kept[event].synchronize()

    def elapsed_ms(self, begin: int, end: int) -> float:
        """Return the time between two events, in milliseconds."""
        with self._named("Event.time_till"):
            return float(self._kept[begin].time_till(self._kept[end]))

    def capture(self, work: Callable[[], None], stream: int) -> int:
        """Raise: PyCUDA has no graphs."""
        raise EngineError("PyCUDA cannot capture a graph", reason="ENGINE_UNSUPPORTED")

    def launch(self, graph: int, stream: int) -> None:
        """Raise: PyCUDA has no graphs."""
        raise EngineError("PyCUDA cannot launch a graph", reason="ENGINE_UNSUPPORTED")

    def end_graph(self, graph: int) -> None:
        """Do nothing: there are none."""

    def load(self, source: str) -> int:
        """Compile CUDA C with nvcc and load it; return the module."""
        from pycuda.compiler import compile as compile_source

        try:
            with self._named("compile"):
                image = compile_source(
                    source, nvcc=find_nvcc() or "nvcc", no_extern_c=True, options=list(OPTIONS)
                )
        except OSError as error:  # nvcc cannot be run
            raise EngineError(
                f"no compiler for the GPU's kernels: PyCUDA needs nvcc ({error})",
                reason="BACKEND_MISSING",
            ) from error
        with self._named("module_from_buffer"):
            module = self._driver.module_from_buffer(image)
        return self._keep(id(module), module)

    def unload(self, module: int) -> None:
        """Unload a module."""
        # PyCUDA does so with the object, which its kernels hold.
        for kernel in self._kernels.pop(module, ()):
            self._kept.pop(kernel, None)
        self._kept.pop(module, None)

    def kernel(self, module: int, name: str) -> int:
        """Return a kernel of a module."""
        with self._named("get_function"):
            function = self._kept[module].get_function(name)
        self._kernels.setdefault(module, []).append(id(function))
        return self._keep(id(function), function)

    def run(
        self, kernel: int, grid: tuple[int, int], block: tuple[int, int], job: bytes, stream: int
    ) -> None:
        """Run a kernel when the stream gets there."""
        # Not by a prepared call: what it knows of the arguments is the function's, for all threads.
        given = np.frombuffer(job, np.uint8)
        with self._named("Function.__call__"):
            self._kept[kernel](given, grid=grid, block=(*block, 1), stream=self._kept[stream])

    def memory(self) -> tuple[int, int]:
        """Return how many bytes of the GPU are free, and how many it has."""
        with self._named("mem_get_info"):
            free, total = self._driver.mem_get_info()
        return int(free), int(total)

    def close(self) -> None:
        """Let the primary context go. May be called more than once."""
        if self._context is not None:
            context, self._context = self._context, None
            self._kept.clear()
            # From another thread than the one that opened it, PyCUDA keeps its reference.
            with suppress(self._driver.Error):
                context.detach()
            if threading.get_ident() == self._thread:
                leave_context()  # to let it go, PyCUDA has made it current, and left it so

    def _keep(self, number: int, thing: Any) -> int:
        self._kept[number] = thing
        return number

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Turn the package's errors into ours, with the driver's call where they name it."""
        driver = self._driver
        try:
            yield
        except driver.Error as error:
            # Its frames hold streams and modules, which live as long as their objects.
            clear_frames(error.__traceback__)
            said = " ".join(str(error).split())
            call, failed, why = said.partition(" failed: ")
            if not failed:
                call, why = what, said
            why = why.removesuffix(" -")  # before the driver's own words, of which there were none
            if isinstance(error, driver.MemoryError):
                code = OUT_OF_MEMORY
            elif isinstance(error, driver.LaunchError):
                code = _LAUNCH_FAILED
            else:
                lost = any(word in why for word in _LOST_WORDS)
                code = _ILLEGAL_ADDRESS if lost else _OTHER
            raise device_error(call, code, why) from error
        except UnicodeDecodeError as error:  # of what the driver was to say of a failure
            raise device_error(what, _OTHER, "no reason was given") from error


def find_nvcc() -> str | None:
    """Return CUDA's compiler: that on the path, else of NVIDIA's Python packages; or None."""
    if found := shutil.which("nvcc"):
        return found
    packages = find_spec("nvidia")
    for folder in packages.submodule_search_locations or () if packages else ():
        for tool in sorted(Path(folder).glob("*/bin/nvcc")):
            return str(tool)
    return None
