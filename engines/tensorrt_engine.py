"""The engine of NVIDIA's GPUs: a plan, computed in several slots at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import numpy as np

from rtseg.engines.cuda_layer import Cuda
from rtseg.engines.engine import U8, EngineProfile, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.gpu_pictures import GpuPictures
from rtseg.engines.inflight import InflightEngine, Outcome
from rtseg.engines.kernels import Kernels
from rtseg.engines.planes import Paint, Planes, YuvColours
from rtseg.engines.planes_trial import try_planes
from rtseg.engines.planfile import PlanHeader
from rtseg.engines.tensorrt_plan import Plan, PlanContext

_log = logging.getLogger(__name__)

GRAPHS = 2
"""Numbers of frames for which a slot keeps a CUDA graph; others run without one."""


class TensorRtEngine(InflightEngine):
    """Runs a plan of TensorRT or TensorRT-RTX.

    A slot has a stream, pinned buffers of the host, buffers of the GPU and contexts of the
    runtime; while one slot computes, another copies. Each inference is an upload, the network
    and a download on the slot's stream; a worker thread sleeps until they are done. In the loop
    an inference holds one picture, whose resizing and painting go with it; a plan for more at
    once takes the batches that are submitted. The network is captured as a CUDA graph once for
    each number of frames, where the CUDA package can and the runtime does not do so by itself.

    Args:
        header: what the engine file says of the plan.
        plan: the plan, loaded; closed with the engine.
        cuda: the GPU; closed with the engine.
        requests: slots, at least 2; 0 takes 2.
        graph: whether CUDA graphs may be used.

    Raises:
        EngineError: ``NO_MEMORY``, ``DEVICE_LOST``, or the runtime fails on a first frame.
    """

    def __init__(
        self,
        header: PlanHeader,
        plan: Plan,
        cuda: Cuda,
        *,
        requests: int = 0,
        graph: bool = True,
    ) -> None:
        identity = header.identity
        self._header = header
        self._plan = plan
        self._cuda = cuda
        slots = max(2, requests) if requests else 2
        self._idle: list[_Slot] = []
        self._kernels: Kernels | None = None
        self._loading = threading.Lock()
        # One context is made, and one graph captured, at a time: what others do in the driver
        # meanwhile may spoil a capture, and be refused because of it.
        self._preparing = threading.Lock()
        self.assumed: tuple[str, ...] = ()
        spec = header.spec
        blank = np.zeros((1, spec.height, spec.width, 3), np.uint8)
        try:
            with cuda.current():
                for _ in range(slots):
                    self._idle.append(_Slot(header, plan, cuda, self._preparing, graph=graph))
                    # What a runtime compiles or captures for a slot is done before frames come.
                    self._idle[-1].run(blank, np.empty(blank.shape[:3], np.uint8))
        except BaseException:
            self._free()
            raise
        super().__init__(
            spec,
            requests=slots,
            workers=slots,
            name=identity.backend,
            frames_at_once=identity.max_batch,
        )

    def profile(self) -> EngineProfile:
        """What the engine runs on."""
        identity = self._header.identity
        return EngineProfile(
            backend=identity.backend,
            device=self._cuda.gpu.name,
            precision=identity.precision,
            runtime_version=identity.runtime_version,
            requests=self._requests,
            threads=0,
            quality=self.quality,
        )

    def prepare_planes(self) -> None:
        """Compile and try the kernels; see :class:`rtseg.engines.planes.PlanesEngine`."""
        with self._loading:
            self._check_open()
            if self._kernels is not None:
                return
            with self._cuda.current():
                kernels = Kernels(self._cuda)
            try:
                try_planes(self, partial(self._start_planes, kernels))
            except BaseException:
                with suppress(EngineError), self._cuda.current():
                    kernels.close()
                raise
            self._kernels = kernels

    def submit_planes(
        self, source: Planes, colours: YuvColours, paint: Paint | None = None
    ) -> Handle:
        """Start an inference on the decoder's planes, with which nothing was done on the CPU.

        They go up once; resizing, the network and blending follow each other on the slot's
        stream, all within ``infer_ms``; the class ids and the blended planes come down.
        """
        self._check_open()
        if paint is not None:
            paint.check(source)
        self.prepare_planes()
        assert self._kernels is not None
        return self._start_planes(self._kernels, source, colours, paint)

    def _start_planes(
        self, kernels: Kernels, source: Planes, colours: YuvColours, paint: Paint | None
    ) -> Handle:
        labels = np.empty((1, self.spec.height, self.spec.width), np.uint8)

        def compute() -> Outcome:
            with self._slot() as slot:
                return slot.run_planes(kernels, source, colours, paint, labels)

        return self._started(labels, [compute])

    def _compute(self, frame: U8, labels: U8) -> Outcome:
        with self._slot() as slot:
            return slot.run(frame, labels)

    @contextmanager
    def _slot(self) -> Iterator[_Slot]:
        slot = self._idle.pop()  # there are as many slots as threads
        try:
            with self._cuda.current():
                yield slot
        finally:
            self._idle.append(slot)

    def _free(self) -> None:
        """Free slots, plan and GPU, each whatever happens to the others."""
        # A lost device refuses to free, too; the driver does so when the process ends.
        with self._loading, suppress(EngineError), self._cuda.current():
            while self._idle:
                self._idle.pop().close()
            if self._kernels is not None:
                with suppress(EngineError):
                    self._kernels.close()
            self._plan.close()
        with suppress(EngineError):
            self._cuda.close()


@dataclass
class _Shape:
    """One number of frames in a slot: its context, and its graph once there is one."""

    context: PlanContext
    graph: int = 0
    ready: bool = False


class _Slot:
    """All that one inference needs; used by one thread at a time, with the GPU current."""

    def __init__(
        self,
        header: PlanHeader,
        plan: Plan,
        cuda: Cuda,
        preparing: threading.Lock,
        *,
        graph: bool,
    ) -> None:
        spec = header.spec
        pixels = spec.height * spec.width * header.identity.max_batch
        self._plan = plan
        self._cuda = cuda
        self._preparing = preparing
        self._graph = graph
        self._captures = graph and cuda.captures and not plan.own_graphs
        self._shapes: dict[int, _Shape] = {}
        self._other: PlanContext | None = None
        self._made = ExitStack()
        with ExitStack() as made:  # what was made is freed where something cannot be
            self._stream = cuda.stream()
            made.callback(cuda.end_stream, self._stream)
            self._events = []
            for _ in range(4):
                self._events.append(cuda.event())
                made.callback(cuda.end_event, self._events[-1])
            self._frames = cuda.allocate(pixels * 3)
            made.callback(cuda.free, self._frames)
            self._labels = cuda.allocate(pixels)
            made.callback(cuda.free, self._labels)
            self._host_frames = cuda.pin(pixels * 3)
            made.callback(cuda.unpin, self._host_frames)
            self._host_labels = cuda.pin(pixels)
            made.callback(cuda.unpin, self._host_labels)
            self._pictures = GpuPictures(cuda)
            made.callback(self._pictures.close)
            self._shapes[1] = self._shape(1)
            self._made = made.pop_all()

    def run(self, frames: U8, labels: U8) -> Outcome:
        """Compute frames (N×H×W×3) into labels (N×H×W)."""
        given, taken = self._host_frames[: frames.size], self._host_labels[: labels.size]
        np.copyto(given.reshape(frames.shape), frames)
        outcome = self._timed(
            lambda: self._cuda.upload(self._frames, given, self._stream),
            lambda: self._enqueue(len(frames)),
            lambda: self._cuda.download(taken, self._labels, self._stream),
        )
        labels[...] = taken.reshape(labels.shape)
        return outcome

    def run_planes(
        self,
        kernels: Kernels,
        source: Planes,
        colours: YuvColours,
        paint: Paint | None,
        labels: U8,
    ) -> Outcome:
        """Compute a picture into labels (1×H×W) and, where asked, into the painted picture."""
        cuda, stream, pictures = self._cuda, self._stream, self._pictures
        height, width = labels.shape[1:]
        taken = self._host_labels[: labels.size]
        pictures.take(source, paint)

        def compute() -> None:
            kernels.resize(pictures.picture, colours, self._frames, width, height, stream)
            self._enqueue(1)
            if paint is not None:
                size, table = (height, width), pictures.table
                kernels.paint(pictures.picture, self._labels, size, table, paint.alpha, stream)

        def download() -> None:
            cuda.download(taken, self._labels, stream)
            if paint is not None:
                pictures.download(stream)

        outcome = self._timed(lambda: pictures.upload(stream), compute, download)
        labels[...] = taken.reshape(labels.shape)
        if paint is not None:
            pictures.give(paint.target)
        return outcome

    def _timed(
        self,
        upload: Callable[[], None],
        compute: Callable[[], None],
        download: Callable[[], None],
    ) -> Outcome:
        """Hand three steps to the stream and wait for their end."""
        cuda, stream = self._cuda, self._stream
        begin, uploaded, computed, end = self._events
        try:
            cuda.record(begin, stream)
            upload()
            cuda.record(uploaded, stream)
            compute()
            cuda.record(computed, stream)
            download()
            cuda.record(end, stream)
            cuda.wait(end)
        except BaseException:
            # A copy may be under way: nothing is used again, or freed, before its end.
            with suppress(EngineError):
                cuda.record(end, stream)
                cuda.wait(end)
            raise
        return Outcome(
            infer_ms=cuda.elapsed_ms(uploaded, computed),
            upload_ms=cuda.elapsed_ms(begin, uploaded),
            download_ms=cuda.elapsed_ms(computed, end),
        )

    def close(self) -> None:
        """Free everything. May be called more than once."""
        for shape in self._shapes.values():
            if shape.graph:
                with suppress(EngineError):
                    self._cuda.end_graph(shape.graph)
        self._shapes.clear()
        self._other = None
        with suppress(EngineError):
            self._made.close()

    def _enqueue(self, count: int) -> None:
        shape = self._shapes.get(count)
        if shape is not None and shape.graph:
            self._cuda.launch(shape.graph, self._stream)
        elif shape is not None and shape.ready:
            shape.context.enqueue(self._stream)
        else:
            with self._preparing:
                self._enqueue_first(count, shape)

    def _enqueue_first(self, count: int, shape: _Shape | None) -> None:
        if shape is None:
            if len(self._shapes) >= GRAPHS:
                self._enqueue_other(count)
                return
            shape = self._shapes[count] = self._shape(count)
        # Once without a graph: TensorRT prepares itself for a new number of frames then.
        shape.context.enqueue(self._stream)
        shape.ready = True
        if self._captures:
            computed = self._events[2]  # recorded anew by who called
            self._cuda.record(computed, self._stream)
            self._cuda.wait(computed)
            self._capture(shape)

    def _enqueue_other(self, count: int) -> None:
        """Compute a number of frames that no graph is kept for."""
        if self._other is None:
            self._other = self._plan.context(self._frames, self._labels, graph=False)
        self._other.set_frames(count)
        self._other.enqueue(self._stream)

    def _capture(self, shape: _Shape) -> None:
        try:
            shape.graph = self._cuda.capture(
                lambda: shape.context.enqueue(self._stream), self._stream
            )
        except EngineError as error:
            if error.reason in ("DEVICE_LOST", "NO_MEMORY"):
                raise
            # Some layers cannot be captured; they run all the same.
            self._captures = False
            _log.info("without a CUDA graph: %s", error)

    def _shape(self, count: int) -> _Shape:
        # A context for each number of frames: a graph keeps what its context had prepared.
        context = self._plan.context(self._frames, self._labels, graph=self._graph)
        context.set_frames(count)
        return _Shape(context)
