"""The one interface of everything that runs a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.errors import EngineError
from rtseg.engines.spec import EngineSpec

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class EngineTiming:
    """Where one inference spent its time, each in milliseconds of wall clock.

    ``infer_ms`` runs from the start to the end of the computation on the device; waiting
    in the engine's own queue is not part of it. On a CPU the two copies are 0. ``beside_ms`` is
    the part of ``infer_ms`` in which its place among :attr:`EngineProfile.parallel` is free
    for another inference already (upsampling of class ids on a CPU).
    """

    upload_ms: float = 0.0
    infer_ms: float = 0.0
    download_ms: float = 0.0
    beside_ms: float = 0.0


class Handle:
    """A submitted inference. ``timing`` is filled in by :meth:`Engine.result`."""

    __slots__ = ("payload", "timing")

    def __init__(self, payload: object) -> None:
        self.payload = payload
        self.timing: EngineTiming | None = None


@dataclass(frozen=True)
class EngineProfile:
    """What an engine runs on and how, for the report.

    Attributes:
        backend: ``openvino``, ``onnxruntime``, ``tensorrt`` or ``rtx``.
        device: name of the processor, as the runtime gives it.
        precision: the arithmetic in use (a runtime may run an FP32 file in BF16).
        runtime_version: version of the runtime.
        requests: how many inferences may be in flight.
        threads: CPU threads of the engine, 0 where that does not apply.
        parallel: how many inferences the runtime computes at once; the others in flight wait.
        quality: which quality was chosen and why, for people; empty where nobody chose.
    """

    backend: str
    device: str
    precision: str
    runtime_version: str
    requests: int
    threads: int
    parallel: int = 1
    quality: str = ""


class Engine(ABC):
    """Runs a segmentation network; a context manager that frees its device on exit.

    Everything between frame and class ids (normalisation, layout, upsampling, argmax) is
    inside. ``submit`` may be called from one thread and ``result`` from another; results
    may be taken in any order.

    Example:
        >>> with open_engine() as engine:                              # doctest: +SKIP
        ...     labels = engine.infer(frames)
    """

    quality = ""
    """Which quality was chosen and why; whoever opened the engine may say so."""

    @property
    @abstractmethod
    def spec(self) -> EngineSpec:
        """What the network expects and what its class ids mean."""

    @property
    @abstractmethod
    def requests(self) -> int:
        """How many inferences may be in flight before ``submit`` waits; at least 1."""

    @property
    def max_batch(self) -> int:
        """How many frames one inference computes faster than one by one; 1 for a CPU."""
        return 1

    @abstractmethod
    def submit(self, frames: U8) -> Handle:
        """Start an inference.

        Args:
            frames: uint8, N×H×W×3, RGB, of the spec's size. It must not change until the
                result was taken.

        Raises:
            EngineError: wrong shape or dtype, or the device failed.
        """

    @abstractmethod
    def result(self, handle: Handle) -> U8:
        """Wait for an inference and return its class ids, uint8, N×H×W.

        The array belongs to the caller. ``handle.timing`` is set. A handle's result is
        taken once.

        Raises:
            EngineError: the inference failed, or its output is not finite.
        """

    @abstractmethod
    def profile(self) -> EngineProfile:
        """What the engine runs on."""

    @abstractmethod
    def close(self) -> None:
        """Free the device. May be called more than once."""

    def forget(self) -> None:  # noqa: B027
        """Forget earlier frames, where an engine remembers any: what comes is another video's."""

    def infer(self, frames: U8) -> U8:
        """Run one inference and wait for it.

        Args:
            frames: uint8, N×H×W×3, RGB, of the spec's size.

        Returns:
            Class ids, uint8, N×H×W.

        Raises:
            EngineError: wrong shape or dtype, the device or the inference failed, or its output
                is not finite.
        """
        return self.result(self.submit(frames))

    def check_frames(self, frames: U8) -> None:
        """Check that frames are what :meth:`submit` wants.

        Args:
            frames: uint8, N×H×W×3, RGB, of the spec's size.

        Raises:
            EngineError: ``BAD_INPUT``: they have another shape or dtype, or are no array.
        """
        spec = self.spec
        shape = getattr(frames, "shape", ())
        dtype = getattr(frames, "dtype", None)
        if dtype != np.uint8 or len(shape) != 4 or shape[1:] != (spec.height, spec.width, 3):
            raise EngineError(
                f"frames must be uint8 of shape N x {spec.height} x {spec.width} x 3. "
                f"Received: {dtype} of shape {' x '.join(str(n) for n in shape) or type(frames)}",
                reason="BAD_INPUT",
            )

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
