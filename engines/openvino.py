"""The default engine: Intel's OpenVINO on the CPU."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtseg.engines import onnxfile
from rtseg.engines.adapt import AdaptedModel, adapt_onnx
from rtseg.engines.cache import writable_cache
from rtseg.engines.engine import U8, EngineProfile
from rtseg.engines.errors import EngineError
from rtseg.engines.graph import FRAMES, LABELS, LOGIT_MEAN
from rtseg.engines.inflight import (
    InflightEngine,
    Mode,
    Outcome,
    check_options,
    check_precision,
)
from rtseg.engines.laneclock import LaneClock
from rtseg.engines.threads import available_cores, engine_threads

_log = logging.getLogger(__name__)

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16"}
_CHECK_S = 1.0  # how often a waiting thread looks for inferences that failed


@dataclass(eq=False)
class _Slot:
    """One of OpenVINO's inference requests, and what it is busy with."""

    request: Any
    tensors: tuple[Any, ...] = ()  # they share memory with the caller's arrays
    pending: Future[Outcome] | None = None
    task: int = 0
    handed_over_ns: int = 0


class OpenVinoEngine(InflightEngine):
    """Runs an ONNX file or an OpenVINO IR on the CPU.

    Args:
        path: an ``.onnx`` file, ours or foreign, or an IR's ``.xml``.
        precision: None or ``auto`` takes BF16 where the processor computes in it (and
            leaves an INT8 file to itself), ``fp32``, ``bf16`` and ``fp16`` force one.
        threads: CPU threads; 0 leaves a quarter of the cores to the rest of the loop.
        requests: inferences in flight, at least 2; 0 takes one more than the runtime
            computes at once.
        mode: ``latency`` computes one frame with all threads, ``throughput`` several.
        size: width and height, for a network that takes any.
        cache_dir: where compiled networks are kept; None for the user's cache.

    Raises:
        EngineError: the file or a value cannot be used, or the network's output is not
            finite.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        precision: str | None = None,
        threads: int = 0,
        requests: int = 0,
        mode: Mode = "throughput",
        size: tuple[int, int] | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        path = Path(path)
        check_options(threads, requests, mode)
        import openvino

        core = openvino.Core()
        adapted, network = _read(core, path, size)
        check_precision(adapted, precision)
        super().__init__(adapted.spec)
        self.assumed = adapted.assumed
        threads = threads or engine_threads(available_cores())
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": mode.upper(),
            "INFERENCE_NUM_THREADS": threads,
            # Decoder and encoder share these cores: the scheduler must be free to move us.
            "ENABLE_CPU_PINNING": False,
            **_precision_config(core, precision, adapted.spec.precision),
        }
        if mode == "latency":
            config["NUM_STREAMS"] = 1
        compiled = _compile(core, network, config, adapted, path, cache_dir)

        lanes = max(1, int(compiled.get_property("NUM_STREAMS")))
        self._requests = max(2, requests) if requests else lanes + 1
        self._threads = threads
        self._version = str(openvino.get_version()).split("-")[0]
        self._device = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
        self._precision = _precision_in_use(compiled, adapted.spec.precision)
        if precision == "fp16" and self._precision != precision:
            raise _cannot_compute(core, precision)
        self._guarded = adapted.guarded
        self._ports = {port.get_any_name(): port for port in (*compiled.inputs, *compiled.outputs)}
        self._clock = LaneClock(lanes, self._requests)
        self._compiled: Any = compiled
        self._tensor_of = openvino.Tensor
        self._slots = [_Slot(compiled.create_infer_request()) for _ in range(self._requests)]
        for slot in self._slots:
            slot.request.set_callback(self._finished, slot)
        self._idle = list(self._slots)
        self._changed = threading.Condition()
        self._in_order = threading.Lock()
        self._warm_up()

    @property
    def requests(self) -> int:
        """How many inferences may be in flight before ``submit`` waits."""
        return self._requests

    def profile(self) -> EngineProfile:
        """What the engine runs on."""
        return EngineProfile(
            backend="openvino",
            device=self._device,
            precision=self._precision,
            runtime_version=self._version,
            requests=self._requests,
            threads=self._threads,
        )

    def _start(self, frame: U8, labels: U8) -> Future[Outcome]:
        pending: Future[Outcome] = Future()
        slot = self._take_slot()
        slot.pending = pending
        slot.tensors = tuple(
            self._tensor_of(array, shared_memory=True) for array in (frame, labels)
        )
        try:
            slot.request.set_tensor(self._ports[FRAMES], slot.tensors[0])
            slot.request.set_tensor(self._ports[LABELS], slot.tensors[1])
            with self._in_order:
                slot.task = self._clock.hand_over()
                slot.handed_over_ns = time.perf_counter_ns()
                slot.request.start_async()
        except RuntimeError as error:
            self._fail(slot, error)
        return pending

    def _take_slot(self) -> _Slot:
        while True:
            with self._changed:
                if not self._idle and not self._closed:
                    self._changed.wait(_CHECK_S)
                self._check_open()
                if self._idle:
                    return self._idle.pop()
            self._collect_failures()

    def _finished(self, slot: _Slot) -> None:
        """Called by OpenVINO on its own thread when a request has ended well."""
        ended_ns = slot.handed_over_ns + int(slot.request.latency * 1e6)
        infer_ms = self._clock.end(slot.task, slot.handed_over_ns, ended_ns)
        mean = 0.0
        if self._guarded:
            mean = float(slot.request.get_tensor(self._ports[LOGIT_MEAN]).data)
        pending = self._release(slot)
        if pending is not None:
            pending.set_result(Outcome(infer_ms, mean))

    def _fail(self, slot: _Slot, error: RuntimeError) -> None:
        self._clock.end(slot.task, slot.handed_over_ns, time.perf_counter_ns())
        pending = self._release(slot)
        if pending is not None:
            pending.set_exception(
                EngineError(f"OpenVINO failed: {onnxfile.one_line(error)}", reason="ENGINE_FAILED")
            )

    def _release(self, slot: _Slot) -> Future[Outcome] | None:
        with self._changed:
            pending, slot.pending = slot.pending, None
            if pending is not None:
                self._idle.append(slot)
                self._changed.notify_all()
        return pending

    def _collect_failures(self) -> None:
        """Find requests that failed: OpenVINO calls nobody back for those."""
        for slot in self._slots:
            if slot.pending is None:
                continue
            try:
                slot.request.wait_for(0)
            except RuntimeError as error:
                self._fail(slot, error)

    def _settle(self, pending: Future[Outcome]) -> Outcome:
        while True:
            try:
                return pending.result(timeout=_CHECK_S)
            except TimeoutError:
                self._collect_failures()

    def _free(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for slot in self._slots:
            try:
                slot.request.wait()
            except RuntimeError as error:
                self._fail(slot, error)
        # Request, callback and slot refer to each other across the language border, where
        # the garbage collector does not see: cut by hand.
        for slot in self._slots:
            slot.request = None
            slot.tensors = ()
        self._slots, self._idle, self._ports, self._compiled = [], [], {}, None


def _read(core: Any, path: Path, size: tuple[int, int] | None) -> tuple[AdaptedModel, Any]:
    """Return the description of a file, and OpenVINO's network of it."""
    if path.suffix.lower() == ".xml":
        from rtseg.engines.openvino_ir import adapt_ir

        adapted = adapt_ir(core, path, size)
        return adapted, adapted.model
    adapted = adapt_onnx(path, size)
    try:
        return adapted, core.read_model(adapted.serialise())
    except RuntimeError as error:
        raise EngineError(
            f"OpenVINO cannot read {path}: {onnxfile.explain_rejection(adapted.model, error)}",
            reason="ENGINE_UNSUPPORTED",
        ) from error


def _compile(
    core: Any,
    network: Any,
    config: dict[str, Any],
    adapted: AdaptedModel,
    path: Path,
    cache_dir: Path | None,
) -> Any:
    folder = writable_cache(cache_dir, _cache_part(core, config))
    cached = {"CACHE_DIR": str(folder)} if folder else {}
    try:
        try:
            return core.compile_model(network, "CPU", {**config, **cached})
        except RuntimeError as error:
            if not cached:
                raise
            # A full disk or somebody's broken cache must not keep a network from running.
            _log.info("compiling without a cache: %s", onnxfile.one_line(error))
            return core.compile_model(network, "CPU", config)
    except RuntimeError as error:
        why = (
            onnxfile.one_line(error)
            if path.suffix.lower() == ".xml"
            else onnxfile.explain_rejection(adapted.model, error)
        )
        raise EngineError(
            f"OpenVINO cannot compile {path}: {why}", reason="ENGINE_UNSUPPORTED"
        ) from error


def _cache_part(core: Any, config: dict[str, Any]) -> str:
    """Return a folder name for what a compiled network depends on besides the network.

    OpenVINO keys its cache by network and some of this, but not by all: asked for FP16 it
    loads what was compiled for FP32 (seen in 2026.4).
    """
    import openvino

    machine = [core.get_property("CPU", key) for key in ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE")]
    machine.append(sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")))
    digest = hashlib.sha256(repr((machine, sorted(config.items()))).encode()).hexdigest()
    return f"openvino-{openvino.get_version().split('-')[0]}-{digest[:12]}"


def _precision_config(core: Any, asked: str | None, has: str) -> dict[str, Any]:
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if asked in (None, "auto"):
        if has == "int8":
            return {}
        return {"INFERENCE_PRECISION_HINT": "bf16" if "BF16" in able else "f32"}
    if asked == "int8":
        return {}
    assert asked is not None
    if _CAPABILITIES.get(asked, "FP32") not in able:
        raise _cannot_compute(core, asked)
    return {"INFERENCE_PRECISION_HINT": _HINTS[asked]}


def _cannot_compute(core: Any, asked: str) -> EngineError:
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    usable = [n for n in _HINTS if n != asked and _CAPABILITIES.get(n, "FP32") in able]
    return EngineError(
        f"this processor does not compute in {asked.upper()}. Allowed: {', '.join(usable)}",
        reason="ENGINE_UNSUPPORTED",
    )


def _precision_in_use(compiled: Any, has: str) -> str:
    """Return what the convolutions really compute in: a hint may be taken or not."""
    if has == "int8":
        return "int8"
    found = {"fp32": 0, "bf16": 0, "fp16": 0}
    names = {hint: name for name, hint in _HINTS.items()}
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in ("Convolution", "Deconvolution", "FullyConnected"):
            name = names.get(info["runtimePrecision"].astype(str))
            if name:
                found[name] += 1
    most = max(found, key=lambda name: found[name])
    return most if found[most] else "fp32"
