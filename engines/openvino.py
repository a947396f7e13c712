"""The default engine: Intel's OpenVINO on the CPU."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from rtseg.engines import onnxfile
from rtseg.engines.engine import U8, EngineProfile
from rtseg.engines.errors import EngineError
from rtseg.engines.graph import FRAMES, LABELS, LOGIT_MEAN, SCORES
from rtseg.engines.inflight import (
    InflightEngine,
    Mode,
    Outcome,
    check_options,
    check_precision,
)
from rtseg.engines.laneclock import LaneClock
from rtseg.engines.openvino_compile import compile_network
from rtseg.engines.openvino_network import read_network
from rtseg.engines.openvino_precision import HINTS, cannot_compute
from rtseg.engines.openvino_runtime import load_openvino
from rtseg.engines.threads import available_cores, engine_threads


class OpenVinoEngine(InflightEngine):
    """Runs an ONNX file or an OpenVINO IR on the CPU.

    Args:
        path: an ``.onnx`` file, ours or foreign, or an IR's ``.xml``.
        precision: None or ``auto`` takes the fastest (of an INT8 file for what is not INT8):
            BF16 with AMX, without it whichever of BF16 and FP32 a trial finds, which the cache
            keeps; ``fp32``, ``bf16`` and ``fp16`` force one.
        threads: CPU threads; 0 leaves a quarter of the cores to the rest of the loop.
        requests: inferences in flight, at least 2; 0 takes two more than the runtime
            computes at once: one waits while another one's class ids are upsampled. A single
            lane is for live video, where a frame that waits is late: there it is one more.
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
        openvino = load_openvino()
        core = openvino.Core()
        read = read_network(core, path, size)
        adapted = read.adapted
        check_precision(adapted, precision)
        threads = threads or engine_threads(available_cores())
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": mode.upper(),
            "INFERENCE_NUM_THREADS": threads,
            # Decoder and encoder share these cores: the scheduler must be free to move us.
            "ENABLE_CPU_PINNING": False,
        }
        if mode == "latency":
            config["NUM_STREAMS"] = 1
        compiled = compile_network(core, read, path, config, precision, cache_dir)

        in_use = _precision_in_use(compiled, adapted.spec.precision)
        if precision == "fp16" and in_use != precision:
            raise cannot_compute(core, precision)
        lanes = max(1, int(compiled.get_property("NUM_STREAMS")))
        self._parallel = lanes
        requests = max(2, requests) if requests else lanes + (2 if lanes > 1 else 1)
        self.assumed = adapted.assumed
        self._threads = threads
        self._version = str(openvino.get_version()).split("-")[0]
        self._device = str(core.get_property("CPU", "FULL_DEVICE_NAME"))
        self._precision = in_use
        self._guarded = adapted.guarded
        self._upsampler = read.upsampler
        self._tensor_of = openvino.Tensor
        self._compiled: Any = compiled
        # A port has several names where OpenVINO left out a Cast that changes nothing.
        self._ports = {
            name: port
            for port in (*compiled.inputs, *compiled.outputs)
            for name in port.get_names()
        }
        self._idle: list[Any] = [compiled.create_infer_request() for _ in range(requests)]
        self._clock = LaneClock(lanes, requests)
        self._in_order = threading.Lock()
        super().__init__(adapted.spec, requests=requests, workers=requests, name="openvino")
        self._warm_up()

    def profile(self) -> EngineProfile:
        """What the engine runs on."""
        return EngineProfile(
            backend="openvino",
            device=self._device,
            precision=self._precision,
            runtime_version=self._version,
            requests=self._requests,
            threads=self._threads,
            parallel=self._parallel,
            quality=self.quality,
        )

    def _compute(self, frame: U8, labels: U8) -> Outcome:
        request = self._idle.pop()  # there are as many requests as threads
        # Tensors share memory with the arrays: nothing is copied, in or out.
        bound = {FRAMES: frame} if self._upsampler else {FRAMES: frame, LABELS: labels}
        try:
            for name, array in bound.items():
                request.set_tensor(self._ports[name], self._tensor_of(array, shared_memory=True))
            infer_ms, beside_ms = self._run(request), 0.0
            mean = float(request.get_tensor(self._ports[LOGIT_MEAN]).data) if self._guarded else 0.0
            if self._upsampler is not None:
                began_ns = time.perf_counter_ns()
                scores = request.get_tensor(self._ports[SCORES]).data
                self._upsampler.labels(scores[0], labels[0])
                beside_ms = (time.perf_counter_ns() - began_ns) / 1e6
            return Outcome(infer_ms + beside_ms, mean, beside_ms=beside_ms)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO failed: {onnxfile.one_line(error)}", reason="ENGINE_FAILED"
            ) from error
        finally:
            self._idle.append(request)

    def _run(self, request: Any) -> float:
        """Run one request and return how long it computed, in milliseconds."""
        with self._in_order:
            task = self._clock.hand_over()
            handed_over_ns = time.perf_counter_ns()
            request.start_async()
        try:
            request.wait()
        except RuntimeError:
            self._clock.end(task, handed_over_ns, time.perf_counter_ns())
            raise
        ended_ns = handed_over_ns + int(request.latency * 1e6)
        return self._clock.end(task, handed_over_ns, ended_ns)

    def _free(self) -> None:
        self._idle, self._ports, self._compiled = [], {}, None


def _precision_in_use(compiled: Any, has: str) -> str:
    """Return what the convolutions really compute in: a hint may be taken or not."""
    if has == "int8":
        return "int8"
    found = {"fp32": 0, "bf16": 0, "fp16": 0}
    names = {hint: name for name, hint in HINTS.items()}
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in ("Convolution", "Deconvolution", "FullyConnected"):
            name = names.get(info["runtimePrecision"].astype(str))
            if name:
                found[name] += 1
    most = max(found, key=lambda name: found[name])
    return most if found[most] else "fp32"
