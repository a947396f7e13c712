"""The loop of one source: capture → infer → render → outputs, nothing unbounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rtseg.engines.engine import Engine
from rtseg.realtime.begun import Painter
from rtseg.realtime.loop import SharedLoop
from rtseg.realtime.profile import Profiler
from rtseg.realtime.refine import Refiner
from rtseg.realtime.sinks.sink import Sink
from rtseg.realtime.sources.source import Source
from rtseg.realtime.stream import Stream
from rtseg.realtime.throttle import FlowOptions

if TYPE_CHECKING:
    from rtseg.realtime.controls import Controls

__all__ = ["Painter", "Pipeline", "SharedLoop"]


class Pipeline:
    """Runs one source through one engine into any number of outputs.

    A file loses no frame and keeps its order (policy ``block``). A live source never shows an
    old frame (policy ``latest``): a frame enters the engine only when the engine is free, and
    then it is the newest one, so latency stays below one inference, one frame interval and
    one rendering, whatever the source's rate.

    Several sources share an engine in a :class:`SharedLoop`.

    Args:
        source: an open source.
        engine: an open engine.
        painter: makes pictures; may be None when no sink wants any.
        sinks: the outputs, at least one.
        flow: policy, limits, warm-up.
        controls: what a viewer asks for (pause, quit), or None.
        profiler: collects the clocks; a new one if None.
        refiner: what may change labels and frames before anyone sees them, or None.
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
        refiner: Refiner | None = None,
    ) -> None:
        flow = flow or FlowOptions()
        self._stream = Stream(
            source,
            painter,
            sinks,
            flow=flow,
            controls=controls,
            profiler=profiler,
            refiner=refiner,
        )
        self._loop = SharedLoop([self._stream], engine, controls=controls, warmup=flow.warmup)
        self.profiler = self._stream.profiler

    @property
    def in_flight_limit(self) -> int:
        """How many inferences the loop keeps in flight at most."""
        lane, limit = self._stream.lane, self._loop.in_flight_limit
        return limit if lane is None else min(limit, lane.in_flight)

    @property
    def over(self) -> bool:
        """Whether the source has given its last frame, though outputs may have to finish."""
        return self._stream.over

    @property
    def failure(self) -> BaseException | None:
        """Why the source or the painter failed, once they have."""
        return self._stream.failure if self._stream.failed else None

    def run(self, while_running: Callable[[], None] | None = None) -> None:
        """Run until the source ends, :meth:`stop` is called or something fails.

        Args:
            while_running: called some twenty times a second from the calling thread (a
                progress bar); it may raise to end the loop.

        Raises:
            RealtimeError: the source or an output failed; outputs are finished all the same.
                An output that failed while others worked is told at the end.
            EngineError: the engine failed; likewise.
        """
        if self._loop.prepare():
            self._loop.run(while_running)
        else:
            self._loop.shut_down()
        if self._stream.failure is not None:
            raise self._stream.failure
        self._loop.raise_error()

    def stop(self) -> None:
        """Ask the loop to end in order; safe in a signal handler and from any thread."""
        self._loop.stop()
