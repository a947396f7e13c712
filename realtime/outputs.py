"""The outputs of one stream, or of a grid: opened, fed and finished together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rtseg.realtime.delivery import Delivery, Job, SinkWorker
from rtseg.realtime.frame import Rendered
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.sink import Sink, SinkContext, SinkSummary
from rtseg.realtime.slot import DropPolicy

if TYPE_CHECKING:
    import av

POLL_S = 0.05
"""How often opening looks whether it is to stop."""


class Outputs:
    """Sinks, each in a thread of its own.

    Args:
        sinks: the outputs, at least one.
        on_error: called from an output's thread with what went wrong there, once the output
            was left out.

    Raises:
        ValueError: no sink.
    """

    def __init__(self, sinks: Sequence[Sink], on_error: Callable[[BaseException], None]) -> None:
        if not sinks:
            raise ValueError("a pipeline needs at least one sink. Received: none")
        self._sinks = tuple(sinks)
        self._on_error = on_error
        self._workers: list[SinkWorker] = []

    @property
    def wants_picture(self) -> bool:
        """Whether any output needs pictures."""
        return any(sink.wants_picture for sink in self._sinks)

    @property
    def any_size(self) -> bool:
        """Whether every output takes pictures of mixed sizes."""
        return all(sink.any_size for sink in self._sinks)

    @property
    def presents(self) -> bool:
        """Whether somebody looks on at any output."""
        return any(sink.presents for sink in self._sinks)

    @property
    def working(self) -> bool:
        """Whether an output works, or none was opened yet."""
        return any(worker.failure is None for worker in self._workers) or not self._workers

    @property
    def threads(self) -> list[threading.Thread]:
        """The outputs' threads that were started."""
        return [worker.thread for worker in self._workers if worker.thread.ident is not None]

    def summaries(self) -> list[SinkSummary]:
        """Return what the outputs say of themselves."""
        return [said for sink in self._sinks if (said := sink.summary()) is not None]

    def open(
        self, context: SinkContext, policy: DropPolicy, stop_asked: Callable[[], bool]
    ) -> bool:
        """Open all outputs at once, and wait until they are; False if asked to stop before.

        Raises:
            RealtimeError: an output could not be opened; the others are open.
        """
        for sink in self._sinks:
            worker = SinkWorker(sink, policy, SinkWorker.capacity(policy), self._on_error)
            self._workers.append(worker)
            worker.start(context)
        for worker in self._workers:
            while not worker.wait_open(POLL_S):
                if stop_asked():
                    return False
        for worker in self._workers:
            if worker.failure is not None:
                raise worker.failure
        return True

    def hear(self, packets: tuple[av.Packet[Any], ...]) -> None:
        """Pass on a source's sound as it comes."""
        for sink in self._sinks:
            sink.hear(packets)

    def deliver(self, item: Rendered, profiler: Profiler) -> Delivery:
        """Hand a frame to every output, waiting for room where their policy says so."""
        delivery = Delivery(item, len(self._workers), profiler)
        for worker in self._workers:
            worker.take(Job(delivery, item))
        return delivery

    def finish(self, packets: tuple[av.Packet[Any], ...] | None = None) -> None:
        """Say that no more frames come.

        Args:
            packets: the sound after the last one, for every output; None where the source
                was not read to its end.
        """
        for worker in self._workers:
            worker.finish(packets)
        if not self._workers:  # a tile of a grid has to hear that nothing will come
            for sink in self._sinks:
                sink.close()
