"""Several inferences at once: what the engines have in common."""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from rtseg.engines.adapt import AdaptedModel
from rtseg.engines.engine import U8, Engine, EngineTiming, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.spec import EngineSpec

Mode = Literal["latency", "throughput"]


@dataclass(frozen=True)
class Outcome:
    """How one inference ended.

    Attributes:
        infer_ms: wall clock of the computation alone, in milliseconds.
        logit_mean: mean of the logits; 0 where the network does not tell.
        upload_ms: copying to a device, in milliseconds.
        download_ms: copying from it, in milliseconds.
        beside_ms: how much of ``infer_ms`` kept no other from computing.
    """

    infer_ms: float
    logit_mean: float = 0.0
    upload_ms: float = 0.0
    download_ms: float = 0.0
    beside_ms: float = 0.0


@dataclass
class _Batch:
    """What a handle carries: the labels to come, and one future an inference."""

    owner: Engine
    labels: U8
    frames: list[Future[Outcome]]
    taken: bool = False


class InflightEngine(Engine):
    """An engine that computes several inferences at a time, of one frame each by default.

    A CPU gains nothing from batches, so a batch is that many single frames in flight. A
    runtime writes each frame's labels into the caller's own array; its request is free for
    the next frame as soon as the computation ends, whether or not anybody took the result.

    Threads of our own wait for the runtime. Its callbacks would spare them, but deadlock:
    OpenVINO joins its callback thread when a network is freed, which may happen under
    Python's lock, for which that thread waits (seen in 2026.4).

    Args:
        spec: what the network expects.
        requests: inferences in flight before ``submit`` waits.
        workers: threads that hand frames to the runtime.
        name: prefix of their names.
        frames_at_once: frames that one inference may hold.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        requests: int,
        workers: int,
        name: str,
        frames_at_once: int = 1,
    ) -> None:
        self._spec = spec
        self._requests = requests
        self._frames_at_once = frames_at_once
        self._closed = False
        self._closing = threading.Lock()
        self._room = threading.BoundedSemaphore(requests)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)

    @property
    def spec(self) -> EngineSpec:
        """What the network expects and what its class ids mean."""
        return self._spec

    @property
    def requests(self) -> int:
        """How many inferences may be in flight before ``submit`` waits."""
        return self._requests

    @abstractmethod
    def _compute(self, frame: U8, labels: U8) -> Outcome:
        """Compute frames (N×H×W×3) into ``labels`` (N×H×W); called by several threads.

        N is 1, or up to ``frames_at_once``.

        Raises:
            EngineError: the inference failed.
        """

    @abstractmethod
    def _free(self) -> None:
        """Free the runtime; called once, when nothing is in flight any more."""

    def submit(self, frames: U8) -> Handle:
        """Start an inference.

        Args:
            frames: uint8, N×H×W×3, RGB, of the spec's size, N at least 1. It must not change
                until the result was taken.

        Raises:
            EngineError: ``BAD_INPUT`` where they are none such, ``ENGINE_CLOSED``.
        """
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
        step = self._frames_at_once
        return self._started(
            labels,
            [
                partial(self._compute, frames[index : index + step], labels[index : index + step])
                for index in range(0, count, step)
            ],
        )

    def result(self, handle: Handle) -> U8:
        """Wait for an inference and return its class ids; ``handle.timing`` is set.

        Args:
            handle: what :meth:`submit` gave; its result is taken once.

        Returns:
            uint8, N×H×W; the caller's own.

        Raises:
            EngineError: ``BAD_INPUT`` where the handle is another engine's or its result was
                taken, ``BAD_OUTPUT`` where the output is not finite, ``ENGINE_CLOSED``, or the
                inference failed.
        """
        batch = handle.payload
        if not isinstance(batch, _Batch) or batch.owner is not self:
            raise EngineError("the handle is not one of this engine", reason="BAD_INPUT")
        self._check_open()
        if batch.taken:
            raise EngineError("the handle's result was taken already", reason="BAD_INPUT")
        batch.taken = True
        outcomes = [pending.result() for pending in batch.frames]
        handle.timing = EngineTiming(
            upload_ms=sum(outcome.upload_ms for outcome in outcomes),
            infer_ms=sum(outcome.infer_ms for outcome in outcomes),
            download_ms=sum(outcome.download_ms for outcome in outcomes),
            beside_ms=sum(outcome.beside_ms for outcome in outcomes),
        )
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
            self._pool.shutdown(wait=True)
            self._free()

    def _started(self, labels: U8, works: Sequence[Callable[[], Outcome]]) -> Handle:
        """Start inferences, each when there is room, that together fill ``labels``."""
        return Handle(_Batch(self, labels, [self._start(work) for work in works]))

    def _start(self, work: Callable[[], Outcome]) -> Future[Outcome]:
        self._room.acquire()
        try:
            pending = self._pool.submit(work)
        except RuntimeError as error:  # closed while this thread waited for room
            self._room.release()
            raise EngineError("the engine is closed", reason="ENGINE_CLOSED") from error
        pending.add_done_callback(lambda _: self._room.release())
        return pending

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
    """Check that a file can be run in the precision asked for.

    Args:
        adapted: the network of the file.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``; None or ``auto`` always fits.

    Raises:
        EngineError: ``BAD_INPUT`` for another word, ``ENGINE_MISMATCH`` where only one of file
            and precision is INT8.
    """
    allowed = ("fp32", "fp16", "bf16", "int8")
    if precision not in (None, "auto", *allowed):
        raise EngineError(
            f"unknown precision {precision!r}. Allowed: {', '.join(allowed)}", reason="BAD_OPTION"
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
    """Check the options of a CPU engine.

    Args:
        threads: 0 (automatic) or more.
        requests: 0 (automatic) or more.
        mode: ``latency`` or ``throughput``.

    Raises:
        EngineError: ``BAD_INPUT`` for others.
    """
    if threads < 0 or requests < 0:
        raise EngineError(
            f"threads and requests are 0 (automatic) or more. Received: {threads}, {requests}",
            reason="BAD_OPTION",
        )
    if mode not in ("latency", "throughput"):
        raise EngineError(
            f"unknown mode {mode!r}. Allowed: latency, throughput", reason="BAD_OPTION"
        )
