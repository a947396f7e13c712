"""The fallback engine: ONNX Runtime on the CPU."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from rtseg.engines import onnxfile
from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.engine import U8, EngineProfile
from rtseg.engines.errors import EngineError
from rtseg.engines.graph import FRAMES, LABELS, LOGIT_MEAN
from rtseg.engines.inflight import InflightEngine, Mode, Outcome, check_options, check_precision
from rtseg.engines.threads import available_cores, engine_threads

_log = logging.getLogger(__name__)


class OnnxRuntimeEngine(InflightEngine):
    """Runs an ONNX file with ONNX Runtime's CPU provider.

    Args:
        path: an ``.onnx`` file, ours or foreign.
        precision: None, ``auto`` or what the file is in; this runtime computes in that.
        threads: CPU threads; 0 leaves a quarter of the cores to the rest of the loop.
        requests: inferences in flight, at least 2; 0 takes one more than are computed at
            once.
        mode: ``latency`` computes one frame with all threads, ``throughput`` two at once.
        size: width and height, for a network that takes any.

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
    ) -> None:
        path = Path(path)
        check_options(threads, requests, mode)
        if path.suffix.lower() == ".xml":
            raise EngineError(
                f"ONNX Runtime does not read an OpenVINO IR ({path}): take the ONNX file, or "
                "the openvino backend",
                reason="ENGINE_UNSUPPORTED",
            )
        import onnxruntime

        adapted = adapt_onnx(path, size)
        check_precision(adapted, precision)
        has = adapted.spec.precision
        if precision not in (None, "auto", has):
            raise EngineError(
                f"ONNX Runtime computes in the file's own precision, {has}. Received: {precision}",
                reason="ENGINE_MISMATCH",
            )
        if has == "int8":
            _log.warning(
                "ONNX Runtime is slower with INT8 than with FP32 on a CPU: take the FP32 file, or "
                "the openvino backend"
            )
        threads = threads or engine_threads(available_cores())
        lanes = min(2, threads) if mode == "throughput" else 1
        self._parallel = lanes
        options = onnxruntime.SessionOptions()
        # Every lane computes along with the session's own threads.
        options.intra_op_num_threads = threads - lanes + 1
        options.inter_op_num_threads = 1
        # Spinning threads take the cores from decoder and encoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                adapted.serialise(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=onnxfile.unsafe_optimizers(adapted.model),
            )
        except Exception as error:  # the runtime has a dozen exception types and no common base
            raise EngineError(
                f"ONNX Runtime cannot load {path}: "
                f"{onnxfile.explain_rejection(adapted.model, error)}",
                reason="ENGINE_UNSUPPORTED",
            ) from error
        self.assumed = adapted.assumed
        self._threads = threads
        self._precision = has
        self._version = str(onnxruntime.__version__)
        self._session: Any = session
        self._outputs = [LABELS, LOGIT_MEAN] if adapted.guarded else [LABELS]
        super().__init__(
            adapted.spec,
            requests=max(2, requests) if requests else lanes + 1,
            workers=lanes,
            name="onnxruntime",
        )
        self._warm_up()

    def profile(self) -> EngineProfile:
        """What the engine runs on."""
        return EngineProfile(
            backend="onnxruntime",
            device="CPU",
            precision=self._precision,
            runtime_version=self._version,
            requests=self._requests,
            threads=self._threads,
            parallel=self._parallel,
            quality=self.quality,
        )

    def _compute(self, frame: U8, labels: U8) -> Outcome:
        began_ns = time.perf_counter_ns()
        try:
            results = self._session.run(self._outputs, {FRAMES: frame})
        except Exception as error:  # see the constructor
            raise EngineError(
                f"ONNX Runtime failed: {onnxfile.one_line(error)}", reason="ENGINE_FAILED"
            ) from error
        infer_ms = (time.perf_counter_ns() - began_ns) / 1e6
        labels[:] = results[0]
        return Outcome(infer_ms, float(results[1]) if len(results) > 1 else 0.0)

    def _free(self) -> None:
        self._session = None
