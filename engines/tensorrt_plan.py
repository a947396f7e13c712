"""Plans as TensorRT and TensorRT-RTX run them: loaded, with contexts to compute in."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, Protocol

from rtseg.engines.cache import keep, writable_cache
from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import PlanHeader
from rtseg.engines.tensorrt import Runtime, load_runtime
from rtseg.engines.tensorrt_log import logger_of

_log = logging.getLogger(__name__)

RUNTIME_CACHE_PART = "rtx-runtime"
"""Folder of what TensorRT-RTX compiled for the GPU at hand."""


class PlanContext(Protocol):
    """A place to compute in; one inference at a time."""

    def set_frames(self, count: int) -> None:
        """Say how many frames the next inferences hold."""

    def enqueue(self, stream: int) -> None:
        """Hand an inference to a stream.

        Raises:
            EngineError: ``ENGINE_FAILED`` with what TensorRT said.
        """


class Plan(Protocol):
    """A loaded plan."""

    @property
    def own_graphs(self) -> bool:
        """Whether the runtime makes CUDA graphs by itself."""

    def context(self, frames: int, labels: int, *, graph: bool) -> PlanContext:
        """Return a new context that reads and writes at these addresses of the GPU.

        Raises:
            EngineError: ``NO_MEMORY`` where the GPU has none left for it.
        """

    def close(self) -> None:
        """Let everything go."""


class TensorRtPlan:
    """A plan in TensorRT or TensorRT-RTX; the GPU's context must be current.

    Args:
        header: what the engine file says of it.
        plan: the plan itself.
        cache_dir: root of the cache, where TensorRT-RTX keeps what it compiles for the GPU.
        gpu: name of the GPU, part of that cache's key.

    Raises:
        EngineError: ``BACKEND_MISSING``, ``ENGINE_MISMATCH`` (the runtime refuses the plan).
    """

    def __init__(
        self, header: PlanHeader, plan: bytes, *, cache_dir: Path | None = None, gpu: str = ""
    ) -> None:
        backend: Runtime = "rtx" if header.identity.backend == "rtx" else "tensorrt"
        self._trt: Any = load_runtime(backend)
        self._header = header
        self._rtx = backend == "rtx"
        self._logger = logger_of(self._trt)
        self._logger.last_error = ""
        self._runtime: Any = self._trt.Runtime(self._logger)
        self._engine: Any = self._runtime and self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                f"{header.identity.backend} {header.identity.runtime_version} cannot load the "
                f"engine of {header.spec.network}: {self._said()}",
                reason="ENGINE_MISMATCH",
            )
        self._check_ports()
        self._cache: Any = None
        self._cache_path = _runtime_cache(header, gpu, cache_dir) if self._rtx else None

    @property
    def own_graphs(self) -> bool:
        """Whether the runtime makes CUDA graphs by itself."""
        return self._rtx

    def context(self, frames: int, labels: int, *, graph: bool) -> TensorRtContext:
        """Return a new context that reads and writes at these addresses of the GPU."""
        self._logger.last_error = ""
        try:
            context = (
                self._engine.create_execution_context(self._configure(graph))
                if self._rtx
                else self._engine.create_execution_context()
            )
        except RuntimeError as error:  # what the bindings raise where the runtime gives nothing
            raise self._no_memory() from error
        if context is None:
            raise self._no_memory()
        # The names of layers, which the plan keeps for people, cost time at each inference.
        context.nvtx_verbosity = self._trt.ProfilingVerbosity.NONE
        header = self._header
        for name, address in ((header.input_name, frames), (header.output_name, labels)):
            if not context.set_tensor_address(name, address):
                raise EngineError(
                    f"the engine takes no address for {name}: {self._said()}",
                    reason="ENGINE_FAILED",
                )
        spec = header.spec
        free = self._engine.get_tensor_shape(header.input_name)[0] < 0
        shape = (spec.height, spec.width, 3) if free else None
        return TensorRtContext(context, header.input_name, shape, self._logger)

    def close(self) -> None:
        """Keep what TensorRT-RTX compiled, and let everything go."""
        if self._cache is not None and self._cache_path is not None:
            _keep(self._cache_path, self._cache)
        self._cache = None
        self._engine = None
        self._runtime = None

    def _configure(self, graph: bool) -> Any:
        """Return TensorRT-RTX's configuration of a context; all share what was compiled."""
        trt = self._trt
        config = self._engine.create_runtime_config()
        # All is compiled when a context first computes a number of frames. Otherwise kernels that
        # do for any number run meanwhile, and a graph, or a measurement, holds those.
        strategy = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
        if graph:
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            known = _read(self._cache_path)
            if known and self._cache is not None and not self._cache.deserialize(known):
                _log.info("%s is of another GPU or driver; it is made anew", self._cache_path)
        if self._cache is not None:
            config.set_runtime_cache(self._cache)
        return config

    def _check_ports(self) -> None:
        """Raise where the plan is not what its header says."""
        engine, header, trt = self._engine, self._header, self._trt
        names = {engine.get_tensor_name(number) for number in range(engine.num_io_tensors)}
        if names != {header.input_name, header.output_name}:
            raise EngineError(
                f"the plan has the tensors {', '.join(sorted(names))}, its header says "
                f"{header.input_name} and {header.output_name}",
                reason="ENGINE_DAMAGED",
            )
        for name in names:
            if engine.get_tensor_dtype(name) != trt.uint8:
                raise EngineError(
                    f"the plan's {name} is not uint8 but {engine.get_tensor_dtype(name)}",
                    reason="ENGINE_DAMAGED",
                )

    def _no_memory(self) -> EngineError:
        return EngineError(
            f"the GPU has no memory left to run {self._header.spec.network} in: {self._said()}; "
            "end other programs on it, or take fewer requests or a smaller largest batch",
            reason="NO_MEMORY",
        )

    def _said(self) -> str:
        return self._logger.last_error or "it does not say why"


class TensorRtContext:
    """An execution context with its tensors bound; see :class:`PlanContext`."""

    def __init__(
        self, context: Any, frames: str, size: tuple[int, int, int] | None, logger: Any
    ) -> None:
        self._context = context
        self._frames = frames
        self._size = size
        self._logger = logger

    def set_frames(self, count: int) -> None:
        """Say how many frames the next inferences hold."""
        if self._size is None:  # the plan is for one number of frames
            return
        if not self._context.set_input_shape(self._frames, (count, *self._size)):
            raise EngineError(
                f"the engine does not take {count} frames: {self._logger.last_error}",
                reason="BAD_INPUT",
            )

    def enqueue(self, stream: int) -> None:
        """Hand an inference to a stream."""
        if not self._context.execute_async_v3(stream):
            raise EngineError(
                f"TensorRT failed: {self._logger.last_error or 'it does not say why'}",
                reason="ENGINE_FAILED",
            )


def _runtime_cache(header: PlanHeader, gpu: str, cache_dir: Path | None) -> Path | None:
    folder = writable_cache(cache_dir, RUNTIME_CACHE_PART)
    record = f"{header.plan_sha256} {header.identity.runtime_version} {gpu}"
    return folder and folder / f"{hashlib.sha256(record.encode()).hexdigest()[:16]}.rtxcache"


def _read(path: Path | None) -> bytes:
    try:
        return path.read_bytes() if path is not None else b""
    except OSError:
        return b""


def _keep(path: Path, cache: Any) -> None:
    """Write what was compiled; a cache is never needed, so that it may fail."""
    try:
        kept = cache.serialize()
        if kept is not None:
            keep(path, bytes(kept))
    except (OSError, RuntimeError) as error:
        _log.info("what TensorRT-RTX compiled is not kept: %s", error)
