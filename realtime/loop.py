"""The loop of any number of streams: they take turns on one engine; nothing is unbounded."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtseg.engines.engine import Engine, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.fit import Fit
from rtseg.engines.planes import PlanesEngine
from rtseg.realtime.begun import Begun, planes_engine
from rtseg.realtime.errors import RealtimeError
from rtseg.realtime.frame import U8, Frame, now_ns
from rtseg.realtime.outputs import POLL_S
from rtseg.realtime.slot import Closed, Slot
from rtseg.realtime.stream import Segmented, Stream
from rtseg.realtime.turns import Lane, Turns

if TYPE_CHECKING:
    from rtseg.realtime.controls import Controls

FINISH_S = 20.0
"""How long outputs may take to finish once the loop was told to stop."""


@dataclass(frozen=True)
class _Part:
    """One stream's frame within an inference."""

    stream: Stream
    frame: Frame
    preprocess_ms: float
    begun: Begun | None = None


@dataclass(frozen=True)
class _Inference:
    """What is in the engine; ``pixels`` must live until its result was taken."""

    parts: Sequence[_Part]
    handle: Handle
    pixels: U8 | None
    submitted_ns: int


class SharedLoop:
    """Runs any number of streams through one engine.

    One thread gives the streams their turns (:class:`~rtseg.realtime.turns.Turns`), another
    takes the results out in the same order and hands them to the streams; neither ever waits
    for a stream. The end or failure of one stream leaves the others alone; a failure of the
    engine ends them all.

    Args:
        streams: at least one; each may be used once.
        engine: an open engine.
        controls: whether a viewer wants to quit, or None.
        warmup: network runs before the first frame.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        engine: Engine,
        *,
        controls: Controls | None = None,
        warmup: int = 0,
    ) -> None:
        if not streams:
            raise ValueError("a loop needs at least one stream. Received: none")
        self.streams = tuple(streams)
        self._engine = engine
        self._controls = controls
        self._warmup = warmup
        self._turns = Turns(
            parallel=engine.profile().parallel,
            requests=engine.requests,
            batch=engine.max_batch,
            expected=len(self.streams),
        )
        self._planes: PlanesEngine | None = None
        self._of_lane: dict[int, Stream] = {}
        # Told-over lanes pass through as well, so that they stay behind their last frames.
        self._in_flight: Slot[_Inference | Stream] = Slot(engine.requests + len(streams) + 2)
        self._threads = [
            threading.Thread(target=self._guard(step), name=f"rtseg-{name}")
            for name, step in (("infer", self._infer), ("collect", self._collect))
        ]
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        self._stop_asked = False

    @property
    def in_flight_limit(self) -> int:
        """How many inferences may be in flight with the streams there are now."""
        return self._turns.limit

    def prepare(self) -> bool:
        """Open every stream now, in this thread; return whether all are ready.

        Without it, :meth:`run` lets each open in a thread of its own.
        """
        spec, requests = self._engine.spec, self._engine.requests
        return all(
            stream.prepare(self._turns, spec, requests, self._asked_to_stop)
            for stream in self.streams
        )

    def run(self, while_running: Callable[[], None] | None = None) -> None:
        """Run until every stream has ended, :meth:`stop` is called or the engine fails.

        Args:
            while_running: called some twenty times a second from the calling thread (a
                progress bar); it may raise to end the loop.

        Raises:
            EngineError: the engine failed; outputs are finished all the same.
            RealtimeError: something did not finish. What failed in a single stream is in
                its :attr:`~rtseg.realtime.stream.Stream.failure`.
        """
        try:
            if not self._asked_to_stop():
                self._warm_up()
                for thread in self._threads:
                    thread.start()
                for stream in self.streams:
                    if not stream.failed:
                        stream.start(self._turns, self._engine.spec, self._engine.requests)
                self._watch(while_running)
        except BaseException as error:
            self._fail(error)
        finally:
            self.shut_down()
        self.raise_error()

    def stop(self) -> None:
        """Ask the loop to end in order; safe in a signal handler and from any thread."""
        self._stop_asked = True

    def shut_down(self) -> None:
        """End every thread in order: sources, engine, renderers, outputs."""
        for stream in self.streams:
            stream.stop()
        self._turns.close()
        for stream in self.streams:
            stream.let_go()
        threads = [thread for thread in self._threads if thread.ident is not None]
        if not threads:
            for stream in self.streams:
                stream.abort()
        deadline_s = time.monotonic() + FINISH_S
        hung: list[str] = []
        for thread in threads + [t for stream in self.streams for t in stream.threads()]:
            thread.join(max(0.1, deadline_s - time.monotonic()))
            if thread.is_alive():
                hung.append(thread.name.removeprefix("rtseg-"))
        if hung and self._error is None:
            self._error = RealtimeError(
                f"did not finish within {FINISH_S:.0f} s: {', '.join(hung)}", reason="TIMEOUT"
            )
        for stream in self.streams:
            stream.settle()

    def raise_error(self) -> None:
        """Raise what ended the loop, or did not finish at its end, where there is something."""
        if self._error is not None:
            raise self._error

    def _asked_to_stop(self) -> bool:
        return self._stop_asked or (self._controls is not None and self._controls.quit)

    def _warm_up(self) -> None:
        spec = self._engine.spec
        blank = np.full((1, spec.height, spec.width, 3), 127, np.uint8)
        # Together, so that each of the engine's lanes gets its share.
        running: deque[Handle] = deque()
        for _ in range(self._warmup):
            if len(running) == self._engine.requests:
                self._engine.result(running.popleft())
            running.append(self._engine.submit(blank))
        for handle in running:
            self._engine.result(handle)
        self._engine.forget()
        if any(stream.planes_painter for stream in self.streams):
            self._planes = planes_engine(self._engine)
        for stream in self.streams:
            stream.profiler.warmup_runs = self._warmup

    def _watch(self, while_running: Callable[[], None] | None) -> None:
        while True:
            alive = [stream for stream in self.streams if stream.alive]
            for stream in self.streams:
                if stream.failed or stream not in alive:
                    stream.let_go()
            if not alive or self._error is not None or self._asked_to_stop():
                return
            if while_running is not None:
                while_running()
            working = [thread for thread in alive[0].threads() if thread.is_alive()]
            if working:
                working[0].join(POLL_S)

    def _guard(self, step: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                step()
            except BaseException as error:
                self._fail(error)

        return run

    def _fail(self, error: BaseException) -> None:
        """Keep the first error and wake everybody, so that the loop ends."""
        if isinstance(error, Closed):
            return
        with self._error_lock:
            if self._error is None:
                self._error = error
        self._turns.close()
        self._in_flight.close()
        for stream in self.streams:
            stream.abort()

    # -- infer thread -----------------------------------------------------------------

    def _infer(self) -> None:
        try:
            while True:
                turn = self._turns.next()
                if turn.frames:
                    self._submit(turn.frames)
                for lane in turn.over:
                    self._in_flight.put(self._stream_of(lane))
        except Closed:
            pass
        finally:
            self._in_flight.end()

    def _submit(self, frames: Sequence[tuple[Lane, Frame]]) -> None:
        from rtseg.engines.preprocess import to_engine_input

        if len(frames) == 1 and self._submit_planes(*frames[0]):
            return
        spec = self._engine.spec
        pixels: list[U8] = []
        parts: list[_Part] = []
        for lane, frame in frames:
            stream = self._stream_of(lane)
            start_ns = now_ns()
            try:
                video, fit = frame.video, stream.fit
                pixels.append(to_engine_input(video, spec.height, spec.width, fit=fit)[None])
            except Exception as error:  # a picture that nothing can read is its stream's affair
                stream.broke(error)
                continue
            ready_ns = now_ns()
            stream.profiler.trace.span("preprocess", start_ns, ready_ns, frame.index)
            parts.append(_Part(stream, frame, (ready_ns - start_ns) / 1e6))
        if not parts:
            self._turns.computed()
            return
        batch = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
        ready_ns = now_ns()
        handle = self._engine.submit(batch)
        submitted_ns = now_ns()
        for part in parts:
            trace = part.stream.profiler.trace
            trace.span("submit", ready_ns, submitted_ns, part.frame.index)
        self._in_flight.put(_Inference(parts, handle, batch, submitted_ns))

    def _submit_planes(self, lane: Lane, frame: Frame) -> bool:
        """Leave resizing and painting to the engine; return False where it cannot have them."""
        stream = self._stream_of(lane)
        if self._planes is None or not self._fills_input(frame, stream.fit):
            return False
        start_ns = now_ns()
        try:
            begun = stream.begin(frame)
        except Exception as error:
            stream.broke(error)
            self._turns.computed()
            return True
        if begun is None:
            return False
        ready_ns = now_ns()
        handle = self._planes.submit_planes(begun.source, begun.colours, begun.paint)
        submitted_ns = now_ns()
        stream.profiler.trace.span("preprocess", start_ns, ready_ns, frame.index)
        stream.profiler.trace.span("submit", ready_ns, submitted_ns, frame.index)
        part = _Part(stream, frame, (ready_ns - start_ns) / 1e6, begun)
        self._in_flight.put(_Inference([part], handle, None, submitted_ns))
        return True

    def _fills_input(self, frame: Frame, fit: Fit) -> bool:
        spec, video = self._engine.spec, frame.video
        place = fit.place(video.width, video.height, spec.width, spec.height)
        return (place.height, place.width) == (spec.height, spec.width)

    def _stream_of(self, lane: Lane) -> Stream:
        if id(lane) not in self._of_lane:
            self._of_lane.update({id(stream.lane): stream for stream in self.streams})
        return self._of_lane[id(lane)]

    # -- collect thread ---------------------------------------------------------------

    def _collect(self) -> None:
        try:
            while True:
                item = self._in_flight.get()
                if isinstance(item, Stream):
                    item.no_more()
                elif item is not None:
                    self._hand_out(item)
        except Closed:
            pass
        finally:
            for stream in self.streams:
                stream.no_more()

    def _hand_out(self, inference: _Inference) -> None:
        asked_ns = now_ns()
        try:
            labels = self._engine.result(inference.handle)
        finally:
            self._turns.computed()
        result_ns = now_ns()
        timing = inference.handle.timing
        if timing is None:
            raise EngineError("the engine gave a result without timing")
        for part, ids in zip(inference.parts, labels, strict=True):
            video = part.frame.video
            own = part.stream.fit.of_frame(ids, video.width, video.height)
            trace, index = part.stream.profiler.trace, part.frame.index
            trace.span("wait for the engine", asked_ns, result_ns, index)
            trace.overlapping(
                "in the engine", inference.submitted_ns, result_ns, index, infer_ms=timing.infer_ms
            )
            part.stream.deliver(Segmented(part.frame, own, timing, part.preprocess_ms, part.begun))
