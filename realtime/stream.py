"""One source's way through the loop: its capture, its rendering, its outputs, its end."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rtseg.engines.engine import EngineTiming
from rtseg.engines.fit import FILL
from rtseg.engines.spec import EngineSpec
from rtseg.realtime.alike import Alike
from rtseg.realtime.begun import Begun, Painter, PlanesPainter
from rtseg.realtime.frame import U8, Frame, Rendered, SourceInfo, now_ns
from rtseg.realtime.outputs import Outputs
from rtseg.realtime.playback import Playback
from rtseg.realtime.profile import Profiler
from rtseg.realtime.refine import Refiner, Seen
from rtseg.realtime.sinks.sink import Sink, SinkContext, SinkSummary
from rtseg.realtime.slot import Closed, Slot, keep_packets
from rtseg.realtime.sources.source import Source
from rtseg.realtime.throttle import FlowOptions, Throttle
from rtseg.realtime.turns import Lane, Turns

if TYPE_CHECKING:
    import av

    from rtseg.realtime.controls import Controls

_log = logging.getLogger("rtseg.realtime")


@dataclasses.dataclass(frozen=True)
class Segmented:
    """A frame with its class ids, on its way from the engine to its stream's renderer."""

    frame: Frame
    labels: U8
    timing: EngineTiming
    preprocess_ms: float
    begun: Begun | None = None
    """The picture, where the engine has painted it."""


class Stream:
    """One source with its outputs; any number of them share an engine in a loop.

    Each stream has its own threads for capture, rendering and every output, and its own
    bounded places between them, so that nothing that happens to one of them (a stall, an
    end, an error, a slow output) holds up another.

    A file loses no frame and keeps its order (policy ``block``). A live source never shows an
    old frame (policy ``latest``).

    An output that fails while others of the stream work is closed and left out, with a log
    line; the stream goes on, and :attr:`failure` is that error in the end. With the last
    output, the source or the painter the stream ends.

    Args:
        source: a source; one that is not open yet is opened in the stream's own thread.
        painter: makes pictures; may be None when no sink wants any. It belongs to this
            stream.
        sinks: the outputs, at least one.
        flow: policy and limits.
        controls: what a viewer asks for (pause), or None.
        profiler: collects the clocks; a new one if None.
        refiner: what may change labels and frames before anyone sees them, or None. It
            belongs to this stream.
        name: what the stream is called beside others, also in the names of its files; None
            leaves the source's own name.
    """

    def __init__(
        self,
        source: Source,
        painter: Painter | None,
        sinks: Sequence[Sink],
        *,
        flow: FlowOptions | None = None,
        controls: Controls | None = None,
        profiler: Profiler | None = None,
        refiner: Refiner | None = None,
        name: str | None = None,
    ) -> None:
        self._outputs = Outputs(sinks, self._output_failed)
        self._wants_picture = self._outputs.wants_picture
        if self._wants_picture and painter is None:
            raise ValueError("a sink wants pictures, so the pipeline needs a painter")
        self.name = name
        self.profiler = profiler or Profiler()
        self.failure: BaseException | None = None
        """Why the stream, or one of its outputs, ended before it should have."""
        self.info: SourceInfo | None = None
        """What the source says of itself, once it is open."""
        self.fit = FILL
        """How its frames lie in the engine's input; known once the source is open."""
        self.lane: Lane | None = None
        self._source = source
        source.observer = self.profiler
        self._painter = painter
        self._refiner = refiner
        # What a refiner remembers of a frame must fit the next one.
        self._alike = Alike(any_size=self._outputs.any_size and refiner is None)
        self._flow = flow or FlowOptions()
        self._controls = controls
        self._segmented: Slot[Segmented] = Slot(1)
        self._threads: list[threading.Thread] = []
        self._pace = False
        self._turns: Turns | None = None
        self._lock = threading.Lock()
        # Sound after the last frame: only of a source that was read to its end.
        self._trailing: Callable[[], tuple[av.Packet[Any], ...]] | None = None
        self._stopping = threading.Event()
        self._taken = 0  # frames that were put into the lane and not thrown out by newer ones
        self._closed = False
        self._broken = False
        self._aborted = False

    # -- the loop's side --------------------------------------------------------------

    def start(self, turns: Turns, spec: EngineSpec, requests: int) -> None:
        """Start the threads; a stream that was not prepared prepares itself first.

        The arguments are those of :meth:`prepare`.
        """

        def capture() -> None:
            if self.lane is None and not self.prepare(turns, spec, requests, self._stopping.is_set):
                return
            self._run("render", self._render)
            self._capture()

        self._run("capture", capture)

    def deliver(self, item: Segmented) -> None:
        """Take a frame from the engine; never waits. A stream that has ended forgets it."""
        with contextlib.suppress(Closed):
            self._segmented.put(item)

    def broke(self, error: BaseException) -> None:
        """End because of something that went wrong with one of the stream's frames."""
        self._fail(error)
        self.abort()

    @property
    def planes_painter(self) -> PlanesPainter | None:
        """The painter, where an engine may do its work."""
        painter: object = self._painter
        fits = self._wants_picture and self._refiner is None
        return painter if fits and isinstance(painter, PlanesPainter) else None

    def begin(self, frame: Frame) -> Begun | None:
        """Return what an engine needs to paint a frame's picture; None where it may not."""
        painter = self.planes_painter
        if painter is None or self.info is None or not self._alike.is_first_like(frame, self.info):
            return None  # what is on the engine has the first frame's size
        return painter.begin(frame)

    def no_more(self) -> None:
        """Hear that no frame will come from the engine any more."""
        self._segmented.end()

    def summaries(self) -> list[SinkSummary]:
        """Return what the outputs say of themselves."""
        return self._outputs.summaries()

    @property
    def alive(self) -> bool:
        """Whether a thread of the stream runs."""
        return any(thread.is_alive() for thread in self.threads())

    def threads(self) -> list[threading.Thread]:
        """Return the threads that were started so far."""
        with self._lock:
            return [*self._threads, *self._outputs.threads]

    @property
    def failed(self) -> bool:
        """Whether the stream ends because of an error."""
        return self._broken

    @property
    def over(self) -> bool:
        """Whether no frame will come any more, though outputs may still have to finish."""
        with self._lock:
            threads = list(self._threads)
        return bool(threads) and not any(thread.is_alive() for thread in threads)

    def stop(self) -> None:
        """Ask every thread to end; what is with the outputs is still written."""
        self._stopping.set()
        if self.lane is not None:
            self.lane.slot.close()

    def let_go(self) -> None:
        """Close the source, which may take a moment; for the loop, once the stream is to end."""
        if not self._closed:
            self._closed = True
            self._source.close()

    def abort(self) -> None:
        """Throw away what is under way, as the engine is gone; the outputs finish."""
        self._aborted = True
        self.stop()
        self._segmented.close()
        self._outputs.finish()

    def settle(self) -> None:
        """Count what was under way when the stream ended; for the loop, once all threads have."""
        lost = self.profiler.under_way
        if lost > 0:
            self.profiler.drop("stopped", lost)

    # -- threads ----------------------------------------------------------------------

    def _run(self, step: str, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except Closed:
                pass
            except BaseException as error:
                self._fail(error)

        name = f"rtseg-{step}-{self.name}" if self.name else f"rtseg-{step}"
        thread = threading.Thread(target=guarded, name=name)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _fail(self, error: BaseException) -> None:
        """Keep the first error and let the stream end; what is under way is still written."""
        if self._stopping.is_set() and getattr(error, "reason", "") == "CLOSED":
            return  # the loop closed the source while it was being opened
        with self._lock:
            self._broken = True
            if self.failure is None:
                self.failure = error

    # -- opening ----------------------------------------------------------------------

    def prepare(
        self, turns: Turns, spec: EngineSpec, requests: int, stop_asked: Callable[[], bool]
    ) -> bool:
        """Open source and outputs in the calling thread; return whether frames may flow.

        What went wrong is the stream's :attr:`failure`.

        Args:
            turns: where the stream's lane joins.
            spec: of the engine.
            requests: how many frames of a stream that loses none may be in the engine.
            stop_asked: whether to give up.
        """
        try:
            self._open(turns, spec, requests, stop_asked)
        except BaseException as error:
            self._fail(error)
        if self.lane is None:
            turns.excused()
            self._outputs.finish()
        return self.lane is not None

    def _open(
        self, turns: Turns, spec: EngineSpec, requests: int, stop_asked: Callable[[], bool]
    ) -> None:
        info = self._source.open()
        if stop_asked() or self._stopping.is_set():
            return  # before outputs are begun that would stay empty
        if self.name is not None:
            info = dataclasses.replace(info, stem=self.name)
        self.info = info
        self.fit = spec.fit.of_pixels(float(info.sample_aspect_ratio))
        policy = self._flow.policy(info.live)
        in_flight = 1 if policy == "latest" else max(2, requests)
        self._pace = not info.live and self._outputs.presents
        if self._refiner is not None:
            waits = policy == "block" and not info.live and not self._pace
            self._refiner.open(may_wait=waits)
        width, height = info.width, info.height
        if self._painter is not None:
            width, height = self._painter.output_size(width, height)
        context = SinkContext(info, spec, width, height)
        if not self._outputs.open(context, policy, lambda: stop_asked() or self._stopping.is_set()):
            return
        self._segmented = Slot(in_flight)
        slot: Slot[Frame] = Slot(
            self._flow.capacity(info.live), policy, self._newer_frame, turns.changed
        )
        self._turns, self.lane = turns, Lane(slot, policy, in_flight)
        turns.join(self.lane)
        if self._stopping.is_set():  # whoever asked may not have seen either of them
            slot.close()
            self._segmented.end()

    def _output_failed(self, error: BaseException) -> None:
        if self.lane is None:  # while opening: nothing was written yet, so nothing begins
            return
        with self._lock:
            first = self.failure is None
            if first:
                self.failure = error
        if not self._outputs.working:
            self.broke(error)
        else:
            reason = getattr(error, "reason", "INTERNAL")
            _log.error("%s: %s; the other outputs go on", reason, error, extra={"reason": reason})

    # -- capture thread ---------------------------------------------------------------

    def _newer_frame(self, dropped: Frame, following: Frame) -> Frame:
        self._taken -= 1
        self.profiler.drop("newer_frame")
        return keep_packets(dropped, following)

    def _capture(self) -> None:
        assert self.lane is not None
        assert self.info is not None
        playback = Playback(self._controls, self._stopping, live=self.info.live)
        throttle = Throttle(self._flow.stride, self._flow.max_fps)
        slot, trace = self.lane.slot, self.profiler.trace
        carried: tuple[av.Packet[Any], ...] = ()
        try:
            for frame in self._source.frames():
                if self._stopping.is_set():
                    return
                self.profiler.frame_in(frame.captured_ns, damaged=frame.damaged)
                begun_ns = frame.captured_ns - int(frame.decode_ms * 1e6)
                trace.span("decode", begun_ns, frame.captured_ns, frame.index)
                if frame.packets:
                    self._outputs.hear(frame.packets)
                if carried:
                    frame = dataclasses.replace(frame, packets=carried + frame.packets)
                    carried = ()
                refused = playback.refuse() or throttle.refuse(frame.pts_s)
                if refused:
                    self.profiler.drop(refused)
                    carried = frame.packets
                    continue
                if self._pace:
                    playback.wait_for(frame.pts_s)
                    frame = dataclasses.replace(frame, captured_ns=now_ns())
                put_ns = now_ns()
                slot.put(frame)
                trace.span("wait for room", put_ns, now_ns(), frame.index)
                self._taken += 1
                if self._flow.max_frames is not None and self._taken >= self._flow.max_frames:
                    return
            self._trailing = lambda: carried + self._source.remaining_packets()
        finally:
            slot.end()

    # -- render thread ----------------------------------------------------------------

    def _render(self) -> None:
        try:
            with contextlib.suppress(Closed):
                while True:
                    item = self._segmented.get()
                    assert item is not None
                    if self._turns is not None and self.lane is not None:
                        self._turns.rendering(self.lane)
                    self._take(item)
            if self._refiner is not None and not self._aborted:
                for seen in self._refiner.flush():
                    self._paint(seen)
        except Closed:
            pass
        except BaseException as error:
            self.broke(error)
        finally:
            trailing = None if self._stopping.is_set() else self._trailing
            packets = None
            try:
                if trailing is not None:
                    # Once: the source gives them away, and every output is to have them all.
                    packets = trailing()
            finally:
                self._outputs.finish(packets)

    def _take(self, item: Segmented) -> None:
        stages_ms = {"decode": item.frame.decode_ms, "preprocess": item.preprocess_ms}
        stages_ms["infer"] = item.timing.infer_ms
        self.profiler.inference(item.timing.infer_ms - item.timing.beside_ms)
        if item.timing.upload_ms or item.timing.download_ms:
            stages_ms["upload"] = item.timing.upload_ms
            stages_ms["download"] = item.timing.download_ms
        assert self.info is not None
        frame = self._alike(item.frame, self.info)
        seen = Seen(frame, item.labels, item.labels, stages_ms)
        if self._refiner is None:
            self._paint(seen, item.begun)
            return
        start_ns = now_ns()
        ready = self._refiner.push(seen)
        self.profiler.trace.span("refine", start_ns, now_ns(), item.frame.index)
        for seen in ready:
            self._paint(seen)

    def _paint(self, seen: Seen, begun: Begun | None = None) -> None:
        trace, index, stages_ms = self.profiler.trace, seen.frame.index, dict(seen.stages_ms)
        start_ns = now_ns()
        picture = None
        if self._wants_picture and self._painter is not None:
            painter = self.planes_painter
            if begun is not None and painter is not None:
                picture = painter.finish(begun, seen.frame)
            else:
                picture = self._painter.render(seen.frame, seen.labels)
            end_ns = now_ns()
            stages_ms["render"] = (end_ns - start_ns) / 1e6
            trace.span("render", start_ns, end_ns, index)
        rendered = Rendered(seen.frame, seen.labels, picture, stages_ms)
        put_ns = now_ns()
        self._outputs.deliver(rendered, self.profiler)
        trace.span("wait for outputs", put_ns, now_ns(), index)
