"""Several inferences at once: what the CPU engines have in common."""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rtseg.engines.adapt import AdaptedModel
from rtseg.engines.engine import U8, Engine, EngineTiming, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.spec import EngineSpec

Mode = Literal["latency", "throughput"]


@dataclass(frozen=True)
class Outcome:
    """How one frame's inference ended.

    Attributes:
        infer_ms: wall clock of the computation alone, in milliseconds.
        logit_mean: mean of the logits; 0 where the network does not tell.
    """

    infer_ms: float
    logit_mean: float = 0.0


@dataclass
class _Batch:
    """What a handle carries: the labels to come, and one future a frame."""

    owner: Engine
    labels: U8
    frames: list[Future[Outcome]]
    taken: bool = False


class InflightEngine(Engine):
    """An engine that computes frame by frame, several at a time.

    A CPU gains nothing from batches, so a batch is that many single frames in flight. A
    runtime writes each frame's labels into the caller's own array; its request is free for
    the next frame as soon as the computation ends, whether or not anybody took the result.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._closed = False
        self._closing = threading.Lock()

    @property
    def spec(self) -> EngineSpec:
        """What the network expects and what its class ids mean."""
        return self._spec

    @abstractmethod
    def _start(self, frame: U8, labels: U8) -> Future[Outcome]:
        """Start one frame (1×H×W×3) that fills ``labels`` (1×H×W); may wait for a request.

        Raises:
            EngineError: the engine was closed while it waited, or the device failed.
        """

    @abstractmethod
    def _settle(self, pending: Future[Outcome]) -> Outcome:
        """Wait for one frame.

        Raises:
            EngineError: the inference failed.
        """

    @abstractmethod
    def _free(self) -> None:
        """Wait for what is in flight and free the runtime; called once."""

    def submit(self, frames: U8) -> Handle:
        """Start an inference; see :meth:`Engine.submit`."""
        self._check_open()
        self.check_frames(frames)
        count = len(frames)
        if count == 0:
            raise EngineError(
                "frames must hold at least one frame. Received: 0", reason="BAD_INPUT"
            )
        # Runtimes share memory with arrays that are whole and writable; others are copied.
        if not (frames.flags.c_contiguous and frames.flags.writeable):
            frames = np.array(frames, order="C")
        labels = np.empty((count, self._spec.height, self._spec.width), np.uint8)
        pending = [
            self._start(frames[index : index + 1], labels[index : index + 1])
            for index in range(count)
        ]
        return Handle(_Batch(self, labels, pending))

    def result(self, handle: Handle) -> U8:
        """Wait for an inference and return its class ids; see :meth:`Engine.result`."""
        batch = handle.payload
        if not isinstance(batch, _Batch) or batch.owner is not self:
            raise EngineError("the handle is not one of this engine", reason="BAD_INPUT")
        self._check_open()
        if batch.taken:
            raise EngineError("the handle's result was taken already", reason="BAD_INPUT")
        batch.taken = True
        outcomes = [self._settle(pending) for pending in batch.frames]
        handle.timing = EngineTiming(infer_ms=sum(outcome.infer_ms for outcome in outcomes))
        if not all(math.isfinite(outcome.logit_mean) for outcome in outcomes):
            raise EngineError(
                f"{self._spec.network} put out numbers that are not finite (NaN or infinity): "
                "its weights are broken, or too large for this precision",
                reason="BAD_OUTPUT",
            )
        return batch.labels

    def close(self) -> None:
        """Wait for what is in flight and free everything. May be called more than once."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._free()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed", reason="ENGINE_CLOSED")

    def _warm_up(self) -> None:
        """Run one frame, so that broken weights show at once and the first frame is fast.

        Raises:
            EngineError: the network cannot run, or its output is not finite.
        """
        rows, columns = np.indices((self._spec.height, self._spec.width), dtype=np.uint16)
        frame = np.stack((rows % 256, columns % 256, (rows + columns) % 256), axis=-1)
        try:
            self.infer(frame[np.newaxis].astype(np.uint8))
        except EngineError:
            self.close()
            raise


def check_precision(adapted: AdaptedModel, precision: str | None) -> None:
    """Raise :class:`EngineError` where a file cannot be run in the precision asked for."""
    allowed = ("fp32", "fp16", "bf16", "int8")
    if precision not in (None, "auto", *allowed):
        raise EngineError(
            f"unknown precision {precision!r}. Allowed: {', '.join(allowed)}", reason="BAD_INPUT"
        )
    if precision in (None, "auto"):
        return
    has = adapted.spec.precision
    if (precision == "int8") != (has == "int8"):
        raise EngineError(
            f"{adapted.spec.network} is {has.upper()}; INT8 is made beforehand, by calibration. "
            f"Received: {precision}",
            reason="ENGINE_MISMATCH",
        )


def check_options(threads: int, requests: int, mode: str) -> None:
    """Raise :class:`EngineError` for values that no CPU engine takes."""
    if threads < 0 or requests < 0:
        raise EngineError(
            f"threads and requests are 0 (automatic) or more. Received: {threads}, {requests}",
            reason="BAD_INPUT",
        )
    if mode not in ("latency", "throughput"):
        raise EngineError(
            f"unknown mode {mode!r}. Allowed: latency, throughput", reason="BAD_INPUT"
        )
