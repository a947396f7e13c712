"""The last stretch of a frame: one thread for each output, and the frame's final clock."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rtseg.realtime.frame import Rendered, now_ns
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.slot import Closed, DropPolicy, Slot, keep_packets

if TYPE_CHECKING:
    import av

_log = logging.getLogger("rtseg.realtime")

IDLE_S = 0.03
"""How long an output waits for a frame before its idle call."""

SLOW_S = 2.0
"""From when on an output that does not take a frame is told as slow."""

LOOK_S = 0.5
"""How often one who waits for an output looks whether that has become slow."""

BROKEN = "output_failed"
"""Why a frame was dropped that was on its way to an output that failed."""


class Delivery:
    """A rendered frame on its way to every output; the last one stops its clocks."""

    def __init__(self, item: Rendered, outputs: int, profiler: Profiler) -> None:
        self.item = item
        self._profiler = profiler
        self._lock = threading.Lock()
        self._waiting_for = outputs
        self._presented_ns = 0
        self._slowest_ms = 0.0
        self._written = False
        self._missed: list[tuple[str, str]] = []

    def written(self, start_ns: int, end_ns: int, presented_ns: int) -> None:
        """Say that one output has taken the frame, from ``start_ns`` to ``end_ns``."""
        self._profiler.trace.span("write", start_ns, end_ns, self.item.frame.index)
        spent_ms = (end_ns - start_ns) / 1e6
        with self._lock:
            self._presented_ns = max(self._presented_ns, presented_ns)
            self._slowest_ms = max(self._slowest_ms, spent_ms)
            self._written = True
        self._one_less()

    def dropped(self, output: str, reason: str = "slow_output") -> None:
        """Say that one output did not take the frame: it was too slow, or it broke."""
        with self._lock:
            self._missed.append((output, reason))
        self._one_less()

    def _one_less(self) -> None:
        with self._lock:
            self._waiting_for -= 1
            if self._waiting_for:
                return
        if not self._written:
            self._profiler.drop(self._missed[-1][1])
            return
        for output, reason in self._missed:
            self._profiler.miss(output, reason)
        frame = self.item.frame
        self._profiler.frame_out(
            index=frame.index,
            pts_s=frame.pts_s,
            captured_ns=frame.captured_ns,
            presented_ns=self._presented_ns,
            stages_ms={**self.item.stages_ms, "encode": self._slowest_ms},
            labels=self.item.labels,
        )


@dataclass(frozen=True)
class Job:
    """One frame for one output; the outputs share the delivery, not the packets."""

    delivery: Delivery
    item: Rendered


def replace_dropped(dropped: Job, following: Job, output: str) -> Job:
    """Let the frame behind a dropped one carry the dropped one's sound."""
    dropped.delivery.dropped(output)
    frame = keep_packets(dropped.item.frame, following.item.frame)
    return Job(following.delivery, dataclasses.replace(following.item, frame=frame))


class SinkWorker:
    """Runs one sink in a thread of its own.

    Args:
        sink: the output; all its calls come from this worker's thread.
        policy: what happens to frames when the sink is slow.
        capacity: how many rendered frames may wait for the sink.
        on_error: called from the thread with whatever went wrong, once :attr:`failure` is set.
    """

    def __init__(
        self,
        sink: Sink,
        policy: DropPolicy,
        capacity: int,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.sink = sink
        self.failure: BaseException | None = None
        self.left_out = 0
        """Frames that this output did not get because it was slow."""
        self._policy = policy
        self._slot: Slot[Job] = Slot(capacity, policy, self._leave_out)
        self._busy_since_s: float | None = None
        self._told = False
        self._on_error = on_error
        self._opened = threading.Event()
        self._packets: tuple[av.Packet[Any], ...] | None = None
        self._context: SinkContext | None = None
        self.thread = threading.Thread(target=self._run, name=f"rtseg-sink-{sink.name}")

    @staticmethod
    def capacity(policy: DropPolicy) -> int:
        """Return how many rendered frames are to wait for a sink under a policy."""
        return 1 if policy == "latest" else 3

    def start(self, context: SinkContext) -> None:
        """Start the thread, which opens the sink."""
        self._context = context
        self.thread.start()

    def wait_open(self, timeout_s: float) -> bool:
        """Return whether opening ended (well or not) within ``timeout_s``."""
        return self._opened.wait(timeout_s)

    def take(self, job: Job) -> None:
        """Hand a frame over, waiting for room where the policy says so.

        A sink that failed takes no more; the frame's delivery hears that. One that has been
        busy for :data:`SLOW_S` seconds is told in the log, and again when it goes on.
        """
        try:
            self._tell_if_slow()
            while not self._slot.put(job, LOOK_S):
                self._tell_if_slow()
        except Closed:
            job.delivery.dropped(self.sink.name, BROKEN)

    def finish(self, packets: tuple[av.Packet[Any], ...] | None) -> None:
        """Say that no more frames come; ``packets`` is the sound after the last one."""
        self._packets = packets
        self._slot.end()

    def _tell_if_slow(self) -> None:
        since_s = self._busy_since_s
        if since_s is None or self._told or time.monotonic() - since_s <= SLOW_S:
            return
        self._told = True
        _log.warning(
            "SLOW_OUTPUT: %s has not taken a frame for %.0f s; %s",
            self.sink.name,
            SLOW_S,
            "frames are left out" if self._policy == "latest" else "the run waits for it",
            extra={"reason": "SLOW_OUTPUT"},
        )

    def _leave_out(self, dropped: Job, following: Job) -> Job:
        self.left_out += 1
        return replace_dropped(dropped, following, self.sink.name)

    def _run(self) -> None:
        assert self._context is not None
        try:
            try:
                self.sink.open(self._context)
                self._opened.set()
                self._consume()
            finally:
                self.sink.close()
        except BaseException as error:
            self.failure = error
            for job in self._slot.close():
                job.delivery.dropped(self.sink.name, BROKEN)
            self._on_error(error)
        finally:
            self._opened.set()
            self._slot.close()

    def _consume(self) -> None:
        while True:
            if not self.sink.ready(IDLE_S) and not self._slot.over:
                continue
            try:
                job = self._slot.get(IDLE_S)
            except Closed:
                break
            if job is None:
                self.sink.idle()
                continue
            start_ns = now_ns()
            self._busy_since_s = time.monotonic()
            try:
                self.sink.write(job.item)
            except BaseException:
                self._busy_since_s = None  # broken is not slow
                job.delivery.dropped(self.sink.name, BROKEN)
                raise
            end_ns = now_ns()
            self._busy_since_s = None
            if self._told:
                self._told = False
                _log.warning(
                    "OUTPUT_BACK: %s goes on after %.1f s; %d frames left out so far",
                    self.sink.name,
                    (end_ns - start_ns) / 1e9,
                    self.left_out,
                    extra={"reason": "OUTPUT_BACK"},
                )
            presented_ns = end_ns if self.sink.presents else start_ns
            job.delivery.written(start_ns, end_ns, presented_ns)
        if self._packets is not None:
            self.sink.write_packets(self._packets)
