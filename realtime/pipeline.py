"""The loop: capture → infer → render → outputs, one thread each, nothing unbounded."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rtseg.engines.engine import Engine, Handle
from rtseg.engines.errors import EngineError
from rtseg.realtime.delivery import Delivery, Job, SinkWorker
from rtseg.realtime.errors import RealtimeError
from rtseg.realtime.frame import U8, Frame, Rendered, SourceInfo, now_ns
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.slot import Closed, Slot, keep_packets
from rtseg.realtime.sources.source import Source
from rtseg.realtime.throttle import FlowOptions, Throttle
from rtseg.realtime.yuv import ColourTags, colour_tags, converted

if TYPE_CHECKING:
    import av

    from rtseg.realtime.controls import Controls

POLL_S = 0.05
"""How often the thread that runs the loop looks whether it should stop."""

FINISH_S = 20.0
"""How long outputs may take to finish once the loop was told to stop."""


class Painter(Protocol):
    """Makes the picture of a frame; see :class:`rtseg.realtime.overlay.Renderer`."""

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the picture for a frame of that size."""

    def render(self, frame: Frame, labels: U8) -> av.VideoFrame:
        """Return the picture, 8-bit yuv420p."""


@dataclasses.dataclass(frozen=True)
class _InFlight:
    frame: Frame
    handle: Handle
    buffer: U8
    preprocess_ms: float
    submitted_ns: int


class Pipeline:
    """Runs one source through one engine into any number of outputs.

    A file loses no frame and keeps its order (policy ``block``). A live source never
    shows an old frame (policy ``latest``): a frame enters the engine only when the engine
    is free, and then it is the newest one, so latency stays below one inference, one frame
    interval and one rendering, whatever the source's rate.

    Args:
        source: an open source.
        engine: an open engine.
        painter: makes pictures; may be None when no sink wants any.
        sinks: the outputs, at least one.
        flow: policy, limits, warm-up.
        controls: what a viewer asks for (pause, quit), or None.
        profiler: collects the clocks; a new one if None.
    """

    def __init__(
        self,
        source: Source,
        engine: Engine,
        painter: Painter | None,
        sinks: Sequence[Sink],
        *,
        flow: FlowOptions | None = None,
        controls: Controls | None = None,
        profiler: Profiler | None = None,
    ) -> None:
        if not sinks:
            raise ValueError("a pipeline needs at least one sink. Received: none")
        self.profiler = profiler or Profiler()
        self._source = source
        source.observer = self.profiler
        self._engine = engine
        self._painter = painter
        self._flow = flow or FlowOptions()
        self._controls = controls
        self._info: SourceInfo = source.info
        self._live_policy = self._flow.policy(self._info.live)
        latest = self._live_policy == "latest"
        self._pace = not self._info.live and any(sink.presents for sink in sinks)
        self._wants_picture = any(sink.wants_picture for sink in sinks)
        if self._wants_picture and painter is None:
            raise ValueError("a sink wants pictures, so the pipeline needs a painter")
        self.in_flight_limit = 1 if latest else max(2, engine.requests)
        self._permits = threading.Semaphore(self.in_flight_limit)
        self._captured: Slot[Frame] = Slot(
            self._flow.capacity(self._info.live), self._live_policy, self._newer_frame
        )
        self._in_flight: Slot[_InFlight] = Slot(self.in_flight_limit)
        self._workers = [
            SinkWorker(sink, self._live_policy, 1 if latest else 3, self._fail) for sink in sinks
        ]
        self._threads = [
            threading.Thread(target=self._guard(step), name=f"rtseg-{name}")
            for name, step in (
                ("capture", self._capture),
                ("infer", self._infer),
                ("render", self._render),
            )
        ]
        self._tags: ColourTags | None = None
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        self._stop_asked = False
        # Sound after the last frame: only of a source that was read to its end.
        self._trailing: Callable[[], tuple[av.Packet[Any], ...]] | None = None
        self._stopping = threading.Event()

    def run(self, while_running: Callable[[], None] | None = None) -> None:
        """Run until the source ends, :meth:`stop` is called or something fails.

        Args:
            while_running: called some twenty times a second from the calling thread (a
                progress bar); it may raise to end the loop.

        Raises:
            RealtimeError: a source or sink failed; outputs are finished all the same.
            EngineError: the engine failed; likewise.
        """
        started: list[threading.Thread] = []
        try:
            self._open_sinks(started)
            if self._error is None and not self._stop_asked:
                self._warm_up()
                for thread in self._threads:
                    thread.start()
                    started.append(thread)
                self._watch(started, while_running)
        except BaseException as error:
            self._fail(error)
        finally:
            self._shut_down(started)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ask the loop to end in order; safe in a signal handler and from any thread."""
        self._stop_asked = True

    def _open_sinks(self, started: list[threading.Thread]) -> None:
        width, height = self._info.width, self._info.height
        if self._painter is not None:
            width, height = self._painter.output_size(width, height)
        context = SinkContext(self._info, self._engine.spec, width, height)
        for worker in self._workers:
            worker.start(context)
            started.append(worker.thread)
        for worker in self._workers:
            while not worker.wait_open(POLL_S):
                if self._stop_asked:
                    return

    def _warm_up(self) -> None:
        spec = self._engine.spec
        blank = np.full((1, spec.height, spec.width, 3), 127, np.uint8)
        for _ in range(self._flow.warmup):
            self._engine.infer(blank)
        self.profiler.warmup_runs = self._flow.warmup

    def _watch(
        self, threads: list[threading.Thread], while_running: Callable[[], None] | None
    ) -> None:
        while any(thread.is_alive() for thread in threads):
            if self._stop_asked or self._error is not None or self._quit_asked():
                return
            if while_running is not None:
                while_running()
            self._wait_for(threads)

    @staticmethod
    def _wait_for(threads: list[threading.Thread]) -> None:
        alive = [thread for thread in threads if thread.is_alive()]
        if alive:
            alive[0].join(POLL_S)

    def _quit_asked(self) -> bool:
        return self._controls is not None and self._controls.quit

    def _shut_down(self, started: list[threading.Thread]) -> None:
        """End every thread in order: source, engine, renderer, outputs."""
        self._stopping.set()
        self._captured.close()
        self._source.close()
        for worker in self._workers:
            if not any(thread in started for thread in self._threads):
                worker.finish(None)
        deadline_s = time.monotonic() + FINISH_S
        for thread in started:
            thread.join(max(0.1, deadline_s - time.monotonic()))
        hung = [thread.name.removeprefix("rtseg-") for thread in started if thread.is_alive()]
        if hung and self._error is None:
            self._error = RealtimeError(
                f"did not finish within {FINISH_S:.0f} s: {', '.join(hung)}", reason="TIMEOUT"
            )

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
        self._stopping.set()
        self._captured.close()
        self._in_flight.close()
        self._permits.release()
        for worker in self._workers:
            worker.slot.end()

    def _newer_frame(self, dropped: Frame, following: Frame) -> Frame:
        self.profiler.drop("newer_frame")
        return keep_packets(dropped, following)

    # -- capture thread ---------------------------------------------------------------

    def _capture(self) -> None:
        throttle = Throttle(self._flow.stride, self._flow.max_fps)
        carried: tuple[av.Packet[Any], ...] = ()
        taken = 0
        start_s = time.monotonic()
        try:
            for frame in self._source.frames():
                if self._stopping.is_set():
                    return
                self.profiler.frame_in(frame.captured_ns)
                begun_ns = frame.captured_ns - int(frame.decode_ms * 1e6)
                self.profiler.trace.span("decode", begun_ns, frame.captured_ns, frame.index)
                if carried:
                    frame = dataclasses.replace(frame, packets=carried + frame.packets)
                    carried = ()
                refused = self._paused_drop() or throttle.refuse(frame.pts_s)
                if refused:
                    self.profiler.drop(refused)
                    carried = frame.packets
                    continue
                if self._pace:
                    start_s += self._wait_for_pause()
                    early_s = start_s + frame.pts_s - time.monotonic()
                    if early_s > 0:
                        self._stopping.wait(early_s)
                    else:  # too slow for real time: play slower, do not race to catch up
                        start_s -= early_s
                    frame = dataclasses.replace(frame, captured_ns=now_ns())
                put_ns = now_ns()
                self._captured.put(frame)
                self.profiler.trace.span("wait for room", put_ns, now_ns(), frame.index)
                taken += 1
                if self._flow.max_frames is not None and taken >= self._flow.max_frames:
                    return
            self._trailing = lambda: carried + self._source.remaining_packets()
        finally:
            self._captured.end()

    def _paused_drop(self) -> str | None:
        """Return ``paused`` when a live source's frame is to be left out."""
        controls = self._controls
        if controls is None or not self._info.live or not controls.paused:
            return None
        return None if controls.take_step() else "paused"

    def _wait_for_pause(self) -> float:
        """Wait while a viewer has paused a file; return for how many seconds."""
        controls = self._controls
        if controls is None:
            return 0.0
        begin_s = time.monotonic()
        while controls.paused and not controls.take_step() and not self._stopping.wait(0.02):
            pass
        return time.monotonic() - begin_s

    # -- infer thread -----------------------------------------------------------------

    def _infer(self) -> None:
        from rtseg.engines.preprocess import to_engine_input

        spec = self._engine.spec
        try:
            while True:
                self._permits.acquire()
                frame = self._captured.get()
                assert frame is not None
                start_ns = now_ns()
                buffer = to_engine_input(frame.video, spec.height, spec.width)[None]
                ready_ns = now_ns()
                handle = self._engine.submit(buffer)
                submitted_ns = now_ns()
                self.profiler.trace.span("preprocess", start_ns, ready_ns, frame.index)
                self.profiler.trace.span("submit", ready_ns, submitted_ns, frame.index)
                preprocess_ms = (ready_ns - start_ns) / 1e6
                self._in_flight.put(_InFlight(frame, handle, buffer, preprocess_ms, submitted_ns))
        except Closed:
            pass
        finally:
            self._in_flight.end()

    # -- render thread ----------------------------------------------------------------

    def _render(self) -> None:
        try:
            while True:
                job = self._in_flight.get()
                assert job is not None
                self._deliver(job)
        except Closed:
            pass
        finally:
            stopped = self._error is not None or self._stopping.is_set()
            for worker in self._workers:
                worker.finish(None if stopped else self._trailing)

    def _deliver(self, job: _InFlight) -> None:
        trace, index = self.profiler.trace, job.frame.index
        asked_ns = now_ns()
        try:
            labels = self._engine.result(job.handle)[0]
        finally:
            self._permits.release()
        result_ns = now_ns()
        stages_ms = {"decode": job.frame.decode_ms, "preprocess": job.preprocess_ms}
        timing = job.handle.timing
        if timing is None:
            raise EngineError("the engine gave a result without timing")
        stages_ms["infer"] = timing.infer_ms
        if timing.upload_ms or timing.download_ms:
            stages_ms["upload"] = timing.upload_ms
            stages_ms["download"] = timing.download_ms
        trace.span("wait for the engine", asked_ns, result_ns, index)
        trace.overlapping(
            "in the engine", job.submitted_ns, result_ns, index, infer_ms=timing.infer_ms
        )
        start_ns = now_ns()
        frame = self._like_first(job.frame)
        picture = None
        if self._wants_picture and self._painter is not None:
            picture = self._painter.render(frame, labels)
            end_ns = now_ns()
            stages_ms["render"] = (end_ns - start_ns) / 1e6
            trace.span("render", start_ns, end_ns, index)
        item = Rendered(frame, labels, picture, stages_ms)
        delivery = Delivery(item, len(self._workers), self.profiler)
        put_ns = now_ns()
        for worker in self._workers:
            worker.slot.put(Job(delivery, item))
        trace.span("wait for outputs", put_ns, now_ns(), index)

    def _like_first(self, frame: Frame) -> Frame:
        """Give a frame the first one's size and colours (mixed images, another camera mode)."""
        if self._tags is None:
            self._tags = colour_tags(frame.video)
        video = converted(frame.video, self._tags, (self._info.width, self._info.height))
        return frame if video is frame.video else dataclasses.replace(frame, video=video)
