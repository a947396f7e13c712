"""Building plans with TensorRT 10.3 to 11, and with TensorRT-RTX, in one way.

Networks are always strongly typed: FP16 and INT8 come from the types and the Q/DQ nodes of
the ONNX file, there are no precision flags and no calibrators (both are gone from TensorRT
11). TensorRT-RTX builds ahead of time, without a GPU.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from rtseg.engines.cache import keep
from rtseg.engines.errors import EngineError
from rtseg.engines.targets import configure_target
from rtseg.engines.tensorrt_checks import check_buildable
from rtseg.engines.tensorrt_layers import Layer, read_layers
from rtseg.engines.tensorrt_log import logger_of, one_line

_log = logging.getLogger(__name__)

Runtime = Literal["tensorrt", "rtx"]
Progress = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and how much there is."""

MIN_TENSORRT = (10, 3)
# TensorRT-RTX comes as two wheels, and as a package that only imports them.
_MODULES: dict[str, tuple[tuple[str, ...], ...]] = {
    "tensorrt": (("tensorrt",),),
    "rtx": (("tensorrt_rtx_libs", "tensorrt_rtx_bindings"), ("tensorrt_rtx",)),
}
INSTALL = {"tensorrt": "pip install rt-seg[tensorrt]", "rtx": "pip install rt-seg[rtx]"}
_MIB = 1 << 20
_LOOK_S = 0.1


@dataclass(frozen=True)
class PlanOptions:
    """How a plan is built.

    Attributes:
        max_batch: frames that one inference may hold, where the network's batch is free; one
            frame is what the plan is tuned for.
        workspace_mib: limit of the working memory, in MiB; 0 leaves it to the runtime.
        timing_cache: file that makes the next build faster; TensorRT-RTX has no use for it.
        target: which GPUs it is for; see :func:`rtseg.engines.targets.check_target`. Empty
            for the one at hand, with TensorRT-RTX for all that it supports.
        tf32: whether products of FP32 numbers may be rounded to TF32's 10 bits of fraction.
    """

    max_batch: int = 1
    workspace_mib: int = 0
    timing_cache: Path | None = None
    target: str = ""
    tf32: bool = True


@dataclass(frozen=True)
class BuiltPlan:
    """What a build gave.

    Attributes:
        plan: the engine as the runtime writes it.
        layers: its layers, with their types.
        warnings: what the builder complained of, each once.
        build_s: how long it took, in seconds.
    """

    plan: bytes
    layers: tuple[Layer, ...]
    warnings: tuple[str, ...]
    build_s: float


def load_runtime(runtime: Runtime) -> ModuleType:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        EngineError: ``BACKEND_MISSING`` with the command that installs it, or
            ``ENGINE_UNSUPPORTED`` where it is too old.
    """
    why = ""
    for names in _MODULES[runtime]:
        try:
            module = [import_module(name) for name in names][-1]
        except Exception as error:  # a broken installation fails in ways of its own
            missing = isinstance(error, ModuleNotFoundError) and error.name in names
            why = why or ("not installed" if missing else one_line(str(error)))
            continue
        if not hasattr(module, "Builder"):  # its type stubs alone, or what an uninstall left
            why = why or "not installed"
            continue
        version = str(getattr(module, "__version__", "0"))
        if runtime == "tensorrt" and _numbers(version) < MIN_TENSORRT:
            raise EngineError(
                f"TensorRT from {'.'.join(map(str, MIN_TENSORRT))} on is needed. Received: "
                f"{version}",
                reason="ENGINE_UNSUPPORTED",
            )
        return module
    title = "TensorRT-RTX" if runtime == "rtx" else "TensorRT"
    raise EngineError(f"{title}: {why} ({INSTALL[runtime]})", reason="BACKEND_MISSING")


def build_plan(
    model: Any,
    runtime: Runtime,
    options: PlanOptions | None = None,
    *,
    network: str = "the network",
    progress: Progress | None = None,
) -> BuiltPlan:
    """Build a network for the GPU (for TensorRT-RTX: for every GPU that it supports).

    One build at a time runs in a process. Ctrl-C and an error in ``progress`` stop it.

    Args:
        model: the ``onnx.ModelProto``, one input of frames, uint8 N×H×W×3.
        runtime: ``tensorrt`` or ``rtx``.
        options: see :class:`PlanOptions`.
        network: its name, for errors.
        progress: told how far the build is.

    Raises:
        EngineError: ``BACKEND_MISSING``; ``ENGINE_UNSUPPORTED`` where a node cannot be
            built, with its name; ``ENGINE_FAILED`` where the builder gives up.
    """
    options = options or PlanOptions()
    check_buildable(model, network)
    trt = load_runtime(runtime)
    with _BUILDING:
        return _Build(trt, runtime, options, network, progress).supervise(model)


_BUILDING = threading.Lock()


class _Build:
    """One build, and what the builder says meanwhile."""

    def __init__(
        self,
        trt: Any,
        runtime: Runtime,
        options: PlanOptions,
        network: str,
        progress: Progress | None,
    ) -> None:
        self._trt = trt
        self._runtime = runtime
        self._options = options
        self._network = network
        self._progress = progress
        self._lines: list[str] = []
        self._errors: list[str] = []
        self._warnings: dict[str, None] = {}
        self._stopped: BaseException | None = None

    def supervise(self, model: Any) -> BuiltPlan:
        """Build in a thread of its own, so that Ctrl-C is not lost in the builder's calls."""
        done: list[BuiltPlan] = []
        ended = threading.Event()

        def work() -> None:
            try:
                done.append(self.run(model))
            except BaseException as error:
                self.stop(error)
            finally:
                ended.set()

        thread = threading.Thread(target=work, name="tensorrt-build")
        thread.start()
        try:
            while not ended.wait(_LOOK_S):  # not join: interrupted, it takes a thread for dead
                pass
        except BaseException as error:
            self.stop(error)
            ended.wait()
            raise
        finally:
            thread.join()
        if self._stopped is not None:
            raise self._stopped
        return done[0]

    def run(self, model: Any) -> BuiltPlan:
        """Build in this thread."""
        began = time.perf_counter()
        trt = self._trt
        logger = logger_of(trt)
        logger.build = self
        try:
            builder = trt.Builder(logger)
            if builder is None:
                raise self._failure("its builder does not start")
            # Ignored by TensorRT 11, where every network is; needed by 10.
            flag = int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            definition = builder.create_network(1 << flag)
            parser = trt.OnnxParser(definition, logger)
            parsed = parser.parse(model.SerializeToString())
            if self._stopped is not None:
                raise self._stopped
            if not parsed:
                raise self._unsupported(parser)
            config = self._configure(builder, definition)
            plan = builder.build_serialized_network(definition, config)
            if self._stopped is not None:
                raise self._stopped
            if plan is None:
                raise self._failure("the build failed")
            self._keep_timing(config)
            return BuiltPlan(
                bytes(plan),
                read_layers(self._lines),
                tuple(self._warnings),
                time.perf_counter() - began,
            )
        except (RuntimeError, TypeError) as error:  # what the bindings raise
            if error is self._stopped:
                raise
            raise self._failure(one_line(str(error))) from error
        finally:
            logger.build = None

    def _configure(self, builder: Any, definition: Any) -> Any:
        trt = self._trt
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if self._options.workspace_mib:
            config.set_memory_pool_limit(
                trt.MemoryPoolType.WORKSPACE, self._options.workspace_mib * _MIB
            )
        if not self._options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        frames = definition.get_input(0)
        batch, *size = tuple(frames.shape)
        if batch < 0:
            profile = builder.create_optimization_profile()
            one = (1, *size)
            profile.set_shape(frames.name, one, one, (self._options.max_batch, *size))
            config.add_optimization_profile(profile)
        configure_target(trt, config, self._runtime, self._options.target)
        config.progress_monitor = _monitor(trt, self)
        self._use_timing(config)
        return config

    # What the builder calls, from its own threads; nothing may be raised through it.

    def logged(self, severity: Any, message: str) -> None:
        """Take a message of the builder."""
        levels = self._trt.ILogger
        if severity in (levels.INTERNAL_ERROR, levels.ERROR):
            self._errors.append(message)
        elif severity == levels.WARNING:
            self._warnings[one_line(message)] = None
        self._lines += message.splitlines()

    def advanced(self, step: str, done: int, total: int) -> None:
        """Tell how far a step is."""
        if self._progress is not None and self._stopped is None:
            self._progress(step, done, total)

    @property
    def going_on(self) -> bool:
        """Whether nothing has stopped the build."""
        return self._stopped is None

    def stop(self, error: BaseException) -> None:
        """Stop the build; ``error`` is raised when it has."""
        self._stopped = self._stopped or error

    # What goes wrong

    def _unsupported(self, parser: Any) -> EngineError:
        found = []
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            name, operator = (
                str(getattr(error, part, lambda: "")()) for part in ("node_name", "node_operator")
            )
            where = f"{operator} {name!r}: " if operator or name else ""
            found.append(where + one_line(str(error.desc()).partition("\n")[0], 160))
        what = "; ".join(dict.fromkeys(found)) or self._complaint()
        return EngineError(
            f"{self._title()} cannot build {self._network}: {what}", reason="ENGINE_UNSUPPORTED"
        )

    def _failure(self, what: str) -> EngineError:
        complaint = self._complaint()
        return EngineError(
            f"{self._title()} cannot build {self._network}: {what}{complaint and ': ' + complaint}",
            reason="ENGINE_FAILED",
        )

    def _complaint(self) -> str:
        return one_line(self._errors[-1]) if self._errors else ""

    def _title(self) -> str:
        name = "TensorRT-RTX" if self._runtime == "rtx" else "TensorRT"
        return f"{name} {getattr(self._trt, '__version__', '')}".strip()

    # The timing cache

    def _use_timing(self, config: Any) -> None:
        path = self._options.timing_cache
        if path is None or self._runtime == "rtx":
            return
        try:
            known = path.read_bytes()
        except OSError:
            known = b""
        for content in dict.fromkeys((known, b"")):
            cache = config.create_timing_cache(content)
            # Another GPU's is read, and refused only here.
            if cache is not None and config.set_timing_cache(cache, False):
                return
            if content:
                _log.warning(
                    "%s is no timing cache of this TensorRT and GPU; it is made anew", path
                )

    def _keep_timing(self, config: Any) -> None:
        path = self._options.timing_cache
        if path is None or self._runtime == "rtx":
            return
        cache = config.get_timing_cache()
        if cache is None:
            return
        try:
            keep(path, bytes(cache.serialize()))
        except OSError as error:
            _log.warning("the timing cache is not kept: %s", error)


def _monitor(trt: Any, build: _Build) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells how far the outermost steps are, and stops the build when asked to."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.totals[phase_name] = num_steps
            self.tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self.tell(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            self.tell(phase_name, self.totals.get(phase_name, 0))
            self.totals.pop(phase_name, None)

        def tell(self, phase: str, done: int) -> bool:
            try:
                if phase in self.totals:
                    build.advanced(phase.lower(), done, self.totals[phase])
            except BaseException as error:
                build.stop(error)
            return build.going_on

    return Monitor()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
