"""The Python interface: segment an array, or everything a source gives."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from rtseg.realtime.frame import U8, Frame, Rendered
from rtseg.realtime.nearest import scale_nearest
from rtseg.realtime.profile import Profiler
from rtseg.realtime.shape import can_be_shaped, narrow, narrow_shape, size_like
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.slot import Closed, Slot
from rtseg.realtime.throttle import FlowOptions
from rtseg.realtime.view import ViewOptions
from rtseg.realtime.yuv import as_rgb

if TYPE_CHECKING:
    import av

    from rtseg.engines.engine import Engine
    from rtseg.engines.inflight import Mode
    from rtseg.engines.labels import ClassTable
    from rtseg.realtime.overlay import Renderer
    from rtseg.realtime.pipeline import Pipeline
    from rtseg.realtime.sources.resolve import SourceOptions


_LOOK_S = 0.1
"""How often a result that nobody takes looks whether the program has ended."""


@dataclass(frozen=True)
class Result:
    """A frame of a stream with its class ids.

    Attributes:
        index: position in the source, from 0; gaps are frames that were dropped.
        pts_s: presentation time in seconds from the first frame.
        raw_labels: uint8, H×W at the engine's size: class ids.
        stages_ms: milliseconds of each stage of the loop so far.
        captured_at: when a live source's frame was handed over, in UTC; None for a file's.
        path: the picture's file, where the source is pictures.
    """

    index: int
    pts_s: float
    raw_labels: U8
    stages_ms: dict[str, float]
    captured_at: datetime | None
    path: Path | None
    _frame: Frame
    _renderer: Renderer

    @cached_property
    def labels(self) -> U8:
        """Class ids at the frame's size, uint8, H×W (exact nearest neighbour)."""
        return scale_nearest(self.raw_labels, self._frame.video.height, self._frame.video.width)

    @cached_property
    def image(self) -> U8:
        """The frame, uint8, H×W×3, RGB."""
        return as_rgb(self._frame.video)

    @cached_property
    def overlay(self) -> U8:
        """The frame with the classes' colours over it, uint8, H×W×3, RGB (even size)."""
        return as_rgb(self._renderer.render(self._frame, self.raw_labels))


class Segmenter:
    """Segments images and streams with one engine; a context manager that frees it.

    Args:
        engine: an engine file or any ONNX segmentation network; None takes ``model``.
        model: name of a shipped network.
        backend: ``auto``, ``openvino``, ``onnxruntime``, ``tensorrt`` or ``rtx``.
        device: ``cpu``, ``cuda:0``, or ``auto``: the backend's, else the CPU.
        precision: ``fp32``, ``bf16``, ``fp16``, ``int8`` or None for the fastest there.
        threads: CPU threads of the engine; 0 chooses from the machine.
        view: how overlays look.
        quality: ``fast``, ``balanced`` or ``best``: the input size of a shipped network.
        input_size: width and height of the network's input instead, multiples of 32.

    Where neither ``engine`` nor ``input_size`` is given, portrait and square pictures get an
    input of their shape, as with ``rt-seg``; it is opened when the first of them comes.

    Raises:
        EngineError: the engine cannot be opened.

    Example:
        >>> from rtseg.realtime import Segmenter
        >>> import numpy as np
        >>> with Segmenter() as segment:
        ...     labels = segment(np.zeros((360, 640, 3), np.uint8))
        >>> labels.shape, labels.dtype
        ((360, 640), dtype('uint8'))
    """

    def __init__(
        self,
        engine: str | Path | None = None,
        *,
        model: str = "espnet-lite",
        backend: str = "auto",
        device: str = "auto",
        precision: str | None = None,
        threads: int = 0,
        view: ViewOptions | None = None,
        quality: str | None = None,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        from rtseg.engines.registry import open_engine

        self._open = partial(
            open_engine,
            engine,
            model=model,
            backend=backend,
            device=device,
            precision=precision,
            threads=threads,
            quality=quality,
            size=input_size,
        )
        self._view = view or ViewOptions()
        self._any_shape = engine is None and input_size is None
        self._engines: dict[tuple[str, tuple[int, int] | None], Engine] = {}
        self._opening = threading.Lock()
        self._streams: set[_Running] = set()
        self._closed = False
        self._engine("latency")

    @property
    def classes(self) -> ClassTable:
        """Names and colours of the classes; a label is a position in it."""
        return self._engine("latency").spec.classes

    def __call__(self, image: U8) -> U8:
        """Return the class ids of an image.

        Args:
            image: uint8, H×W×3, RGB, any size.

        Returns:
            uint8, H×W at the image's size.

        Raises:
            EngineError: ``BAD_INPUT`` where ``image`` is not such an array.
        """
        from rtseg.engines.preprocess import array_to_engine_input

        engine = self._engine("latency", _shape_of(image))
        spec = engine.spec
        pixels = array_to_engine_input(image, spec.height, spec.width, fit=spec.fit)
        labels = engine.infer(pixels[None])[0]
        labels = spec.fit.of_frame(labels, image.shape[1], image.shape[0])
        return scale_nearest(labels, image.shape[0], image.shape[1])

    def overlay(self, image: U8) -> U8:
        """Return an image with the classes' colours over it, uint8, H×W×3, RGB.

        With the view ``side-by-side`` it is H×2W×3, the image left. Legend and HUD belong to
        pictures of a stream (:attr:`Result.overlay`).

        Raises:
            EngineError: as for calling the segmenter.
        """
        labels = self(image)
        palette = np.array(self.classes.palette, np.uint8)
        shown = np.zeros(256, bool)
        shown[list(self._view.shown(len(self.classes)))] = True
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(palette)] = palette
        alpha = 0.0 if self._view.view == "input" else self._view.alpha
        if self._view.view == "mask":
            return np.where(shown[labels][..., None], colours[labels], 0).astype(np.uint8)
        mixed = np.rint(image * (1.0 - alpha) + colours[labels] * alpha).astype(np.uint8)
        over = np.where(shown[labels][..., None], mixed, image)
        return np.hstack([image, over]) if self._view.view == "side-by-side" else over

    def stream(
        self,
        source: str | os.PathLike[str],
        *,
        options: SourceOptions | None = None,
        flow: FlowOptions | None = None,
        profiler: Profiler | None = None,
    ) -> Iterator[Result]:
        """Yield the results of a source; decode and inference go on while you work.

        A file gives every frame, in order. A live source gives the newest one when you ask;
        what you were too slow for is counted in ``profiler.dropped``. Leaving the loop early
        closes the source; so does closing the segmenter.

        Args:
            source: whatever ``rt-seg --source`` takes, or a path.
            options: size, transport, start, … of the source.
            flow: drop policy, stride, limits.
            profiler: collects the clocks, if you want to read them.

        Raises:
            SourceError: the source cannot be opened or read.
            UsageError: no known form of source.
            EngineError: the engine failed.

        Example:
            >>> from rtseg.realtime import Segmenter
            >>> with Segmenter() as segment:
            ...     for result in segment.stream("testsrc"):
            ...         print(result.index, result.labels.shape)
            ...         break
            0 (360, 640)
        """
        from rtseg.realtime.overlay import Renderer
        from rtseg.realtime.pipeline import Pipeline
        from rtseg.realtime.sources.resolve import open_source

        with open_source(source, options) as opened:
            mode: Mode = "latency" if opened.info.live else "throughput"
            engine = self._engine(mode, narrow_shape(opened.info))
            renderer = Renderer(engine.spec.classes, self._view)
            newest = (flow or FlowOptions()).policy(opened.info.live) == "latest"
            hand_over = _HandOver(newest=newest)
            pipeline = Pipeline(opened, engine, None, [hand_over], flow=flow, profiler=profiler)
            running = _Running(pipeline, hand_over)
            self._streams.add(running)
            try:
                while (item := running.next()) is not None:
                    frame = item.frame
                    yield Result(
                        index=frame.index,
                        pts_s=frame.pts_s,
                        raw_labels=item.labels,
                        stages_ms=item.stages_ms,
                        captured_at=frame.captured_at if opened.info.live else None,
                        path=frame.path,
                        _frame=frame,
                        _renderer=renderer,
                    )
            finally:
                running.end()
                self._streams.discard(running)
            if running.failure is not None:
                raise running.failure

    def close(self) -> None:
        """End the streams and free the engines, for good. May be called more than once."""
        self._closed = True
        for running in tuple(self._streams):
            running.end()
        with self._opening:  # another thread may be at it
            for engine in self._engines.values():
                engine.close()
            self._engines.clear()

    def _engine(self, mode: Mode, shape: float | None = None) -> Engine:
        """Return an engine for pictures of a narrow shape, or for all others."""
        with self._opening:
            if self._closed:
                from rtseg.engines.errors import EngineError

                raise EngineError("the segmenter is closed", reason="ENGINE_CLOSED")
            size = None if shape is None else self._size_for(shape)
            if (mode, size) not in self._engines:
                open_ = self._open
                if size is not None:
                    open_ = partial(open_, quality=None, size=size)
                self._engines[mode, size] = open_(mode=mode)
            return self._engines[mode, size]

    def _size_for(self, shape: float) -> tuple[int, int] | None:
        base = self._engines["latency", None]
        if not self._any_shape or not can_be_shaped(base):
            return None
        return size_like(shape, base.spec.width * base.spec.height)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _shape_of(image: U8) -> float | None:
    """Return the shape of an image where it is narrow; what is no image is told elsewhere."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or not image.size:
        return None
    return narrow(image.shape[1] / image.shape[0])


class _Running:
    """A loop in a thread of its own, for one who takes its results.

    Args:
        pipeline: not running yet.
        hand_over: its output.
    """

    def __init__(self, pipeline: Pipeline, hand_over: _HandOver) -> None:
        self.failure: BaseException | None = None
        self._pipeline = pipeline
        self._hand_over = hand_over
        self._slot = hand_over.slot
        self._thread = threading.Thread(target=self._run, name="rtseg-stream")
        self._thread.start()

    def next(self) -> Rendered | None:
        """Return the next result; None after the last one."""
        self._hand_over.reader = threading.current_thread()
        self._hand_over.wanted.set()
        try:
            return self._slot.get()
        except Closed:
            return None

    def end(self) -> None:
        """Stop the loop and wait until it has ended. May be called more than once."""
        self._pipeline.stop()
        self._slot.close()
        self._hand_over.wanted.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._pipeline.run(self._look)
        except Closed:  # nobody wants the rest
            pass
        except BaseException as error:
            self.failure = error
        finally:
            self._slot.end()

    def _look(self) -> None:
        if self._hand_over.abandoned:
            self._pipeline.stop()


class _HandOver(Sink):
    """Gives frames to the thread that iterates.

    Args:
        newest: whether a frame is taken only when that thread asks for one, so that it gets
            the newest there is; otherwise the next one is got ready meanwhile.
    """

    wants_picture = False
    any_size = True
    name = "stream"

    def __init__(self, *, newest: bool) -> None:
        self.slot: Slot[Rendered] = Slot(1)
        self.wanted = threading.Event()
        self._newest = newest
        self.reader = threading.current_thread()

    @property
    def abandoned(self) -> bool:
        """Whether the program ends with results unread; it would wait for the loop for ever."""
        return not threading.main_thread().is_alive() and not self.reader.is_alive()

    def open(self, context: SinkContext) -> None:
        pass

    def ready(self, timeout_s: float) -> bool:
        return not self._newest or self.wanted.wait(timeout_s) or self.abandoned

    def write(self, item: Rendered) -> None:
        self.wanted.clear()
        while not self.slot.put(item, _LOOK_S):
            if self.abandoned:
                raise Closed

    def write_packets(self, packets: tuple[av.Packet[Any], ...]) -> None:
        pass

    def close(self) -> None:
        self.slot.end()
