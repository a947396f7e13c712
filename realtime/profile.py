"""The clocks of the loop: a histogram of each stage, drop counters, and what they add up to."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from rtseg.realtime.environment import cpu_seconds
from rtseg.realtime.frame import U8, now_ns
from rtseg.realtime.histogram import LatencyHistogram, Summary, nearest_rank
from rtseg.realtime.history import OUT, History, HistoryTrace
from rtseg.realtime.series import BoundedSeries, Interval
from rtseg.realtime.trace import Trace

STAGES = (
    "decode",
    "preprocess",
    "upload",
    "infer",
    "download",
    "postprocess",
    "render",
    "encode",
)
"""The stages of a frame, in order. ``encode`` is the time inside the outputs."""

END_OF_INPUT = "end of input"
MAX_FRAMES_REACHED = "--max-frames reached"
"""How a stream ends that was read to its end."""

RECENT_FRAMES = 600
"""How many of the last frames are kept one by one, for ``--profile``."""


@dataclass(frozen=True)
class FrameRecord:
    """The clocks of one frame, for the last :data:`RECENT_FRAMES` frames."""

    index: int
    pts_s: float
    latency_ms: float
    stages_ms: Mapping[str, float]


class Profiler:
    """Collects the clocks and counters of one run; may be called from every thread.

    Args:
        output_interval: over how many frames :meth:`live_fps` looks back.
        trace: gets every stage of every frame, or None.
        total: counts and clocks of several streams together; gets all that this one gets,
            except for the trace.
    """

    def __init__(
        self,
        *,
        output_interval: int = 60,
        trace: Trace | None = None,
        total: Profiler | None = None,
    ) -> None:
        self.history: History | None = None
        """Keeps what the HTML report draws over time, where one is asked for; set it before
        :attr:`trace`."""
        self._total = total
        self.trace = trace or Trace()
        self.ended: str | None = None
        """How the stream ended, once it has: ``end of input``, or a reason word."""
        self.away = False
        """Whether the source is lost, and a new connection is being tried."""
        self._lock = threading.Lock()
        self._stages = {stage: LatencyHistogram() for stage in STAGES}
        self._latency = LatencyHistogram()
        self._over_time = BoundedSeries()
        self._dropped: Counter[str] = Counter()
        self._missed: dict[str, Counter[str]] = {}
        self._output_ns: deque[int] = deque(maxlen=output_interval)
        self._recent: deque[FrameRecord] = deque(maxlen=RECENT_FRAMES)
        self._recent_latency_ms: deque[float] = deque(maxlen=output_interval)
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._first_cpu_s = self._last_cpu_s = 0.0
        self._lane_ms, self._inferences = 0.0, 0
        self.frames_in = 0
        self.frames_damaged = 0
        self.frames_out = 0
        self.warmup_runs = 0
        self.reconnects = 0
        self.stalls = 0
        self._newest_in_ns: int | None = None
        self._away_ns: int | None = None

    @property
    def begun_ns(self) -> int | None:
        """When the first frame came in, on the loop's clock; None before."""
        return self._first_ns

    @property
    def trace(self) -> Trace:
        """Gets every stage of every frame."""
        return self._trace

    @trace.setter
    def trace(self, trace: Trace) -> None:
        history = self.history
        if history is None and self._total is not None:
            history = self._total.history
        self._trace = trace if history is None else HistoryTrace(trace, history)

    def frame_in(self, captured_ns: int, *, damaged: bool = False) -> None:
        """Count a frame that the source handed over."""
        if self._total is not None:
            self._total.frame_in(captured_ns, damaged=damaged)
        with self._lock:
            self.frames_in += 1
            self.frames_damaged += damaged
            if self._first_ns is None:
                self._first_ns = captured_ns
                self._first_cpu_s = self._last_cpu_s = cpu_seconds()
            self._newest_in_ns = captured_ns
            self._away_ns = None

    def inference(self, lane_ms: float) -> None:
        """Count an inference, and for how long it took one of the engine's places."""
        if self._total is not None:
            self._total.inference(lane_ms)
        with self._lock:
            self._lane_ms += lane_ms
            self._inferences += 1

    @property
    def lane_mean_ms(self) -> float:
        """For how long an inference took one of the engine's places, in the mean."""
        with self._lock:
            return self._lane_ms / self._inferences if self._inferences else 0.0

    def stall(self) -> None:
        """Count that the source gave nothing for too long."""
        if self._total is not None:
            self._total.stall()
        with self._lock:
            self.stalls += 1
        self.trace.instant("stall")

    def lost(self) -> None:
        """Note that the source is gone, until it is back; called again for each try that fails."""
        with self._lock:
            was_away, self.away = self.away, self._newest_in_ns is not None
            self._away_ns = now_ns()
        if self.away and not was_away:
            self.trace.instant("lost")

    def away_age_s(self) -> float | None:
        """Return how long ago a lost source was last tried, or None where it is not lost."""
        with self._lock:
            away_ns = self._away_ns
        return _age_s(away_ns)

    def reconnect(self) -> None:
        """Count that a lost source is back."""
        if self._total is not None:
            self._total.reconnect()
        with self._lock:
            self.reconnects += 1
            self.away = False
        self.trace.instant("reconnect")

    def last_frame_age_s(self) -> float | None:
        """Return how long ago the source handed its newest frame over, or None before any."""
        with self._lock:
            newest_ns = self._newest_in_ns
        return _age_s(newest_ns)

    def last_output_age_s(self) -> float | None:
        """Return how long ago a frame reached every output, or None before any."""
        with self._lock:
            last_ns = self._last_ns
        return _age_s(last_ns)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count frames that will not come out, by reason."""
        if self._total is not None:
            self._total.drop(reason, count)
        with self._lock:
            self._dropped[reason] += count
        if self.history is not None:
            self.history.frame(self._run_s(now_ns()), reason, count)
        self.trace.instant(f"dropped: {reason}")

    def miss(self, output: str, reason: str) -> None:
        """Count a frame that came out and that one of several outputs did not get."""
        if self._total is not None:
            self._total.miss(output, reason)
        with self._lock:
            self._missed.setdefault(output, Counter())[reason] += 1

    def stage(self, name: str, value_ms: float) -> None:
        """Count a duration of one stage."""
        if self._total is not None:
            self._total.stage(name, value_ms)
        with self._lock:
            self._stages[name].add(value_ms)

    def frame_out(
        self,
        *,
        index: int,
        pts_s: float,
        captured_ns: int,
        presented_ns: int,
        stages_ms: Mapping[str, float],
        labels: U8 | None = None,
    ) -> None:
        """Count a frame that reached every output, with its stages and class ids."""
        if self._total is not None:
            self._total.frame_out(
                index=index,
                pts_s=pts_s,
                captured_ns=captured_ns,
                presented_ns=presented_ns,
                stages_ms=stages_ms,
                labels=labels,
            )
        latency_ms = max(0.0, (presented_ns - captured_ns) / 1e6)
        done_ns = now_ns()
        if self.history is not None:
            self.history.frame(self._run_s(done_ns), OUT)
            if labels is not None:
                self.history.labels(self._run_s(done_ns), labels)
        with self._lock:
            self.frames_out += 1
            self._last_ns = done_ns
            self._last_cpu_s = cpu_seconds()
            self._output_ns.append(done_ns)
            self._latency.add(latency_ms)
            self._over_time.add(self._run_s(done_ns), latency_ms)
            self._recent_latency_ms.append(latency_ms)
            for name, value_ms in stages_ms.items():
                self._stages[name].add(value_ms)
            self._recent.append(FrameRecord(index, pts_s, latency_ms, dict(stages_ms)))
        self.trace.overlapping("frame", captured_ns, presented_ns, index, pts_s=pts_s)

    def _run_s(self, time_ns: int) -> float:
        first_ns = self._first_ns
        return 0.0 if first_ns is None else max(0.0, (time_ns - first_ns) / 1e9)

    def live_fps(self) -> float:
        """Return the output rate over the last frames, in frames a second."""
        with self._lock:
            if len(self._output_ns) < 2:
                return 0.0
            elapsed_ns = self._output_ns[-1] - self._output_ns[0]
            return (len(self._output_ns) - 1) * 1e9 / elapsed_ns if elapsed_ns else 0.0

    def live_latency_ms(self) -> tuple[float, float]:
        """Return median and 95th percentile of the end-to-end latency of the last frames."""
        with self._lock:
            values = sorted(self._recent_latency_ms)
        if not values:
            return 0.0, 0.0
        return nearest_rank(values, 50), nearest_rank(values, 95)

    @property
    def dropped(self) -> dict[str, int]:
        """How many frames were dropped, by reason."""
        with self._lock:
            return dict(self._dropped)

    @property
    def missed(self) -> dict[str, dict[str, int]]:
        """How many of the frames that came out each output did not get, by reason."""
        with self._lock:
            return {output: dict(reasons) for output, reasons in self._missed.items()}

    @property
    def under_way(self) -> int:
        """How many frames came in and have neither come out nor been dropped."""
        with self._lock:
            return self.frames_in - self.frames_out - sum(self._dropped.values())

    @property
    def elapsed_s(self) -> float:
        """Seconds from the first frame in to the last frame out."""
        with self._lock:
            if self._first_ns is None or self._last_ns is None:
                return 0.0
            return (self._last_ns - self._first_ns) / 1e9

    @property
    def cpu_s(self) -> float:
        """CPU time of the process in :attr:`elapsed_s`, in seconds."""
        with self._lock:
            return self._last_cpu_s - self._first_cpu_s

    def stages(self) -> dict[str, Summary]:
        """Return the statistics of every stage, in the order of :data:`STAGES`."""
        with self._lock:
            return {name: histogram.summary() for name, histogram in self._stages.items()}

    def histograms(self) -> dict[str, LatencyHistogram]:
        """Return a copy of every stage's histogram, in the order of :data:`STAGES`."""
        with self._lock:
            return {name: histogram.copy() for name, histogram in self._stages.items()}

    def latency_histogram(self) -> LatencyHistogram:
        """Return a copy of the end-to-end latency's histogram."""
        with self._lock:
            return self._latency.copy()

    def latency_over_time(self) -> list[Interval]:
        """Return the end-to-end latency (ms) over the run's time, from the first frame in."""
        with self._lock:
            return self._over_time.intervals()

    def latency(self) -> Summary:
        """Return the statistics of the end-to-end latency."""
        with self._lock:
            return self._latency.summary()

    def recent(self) -> list[FrameRecord]:
        """Return the clocks of the last frames, oldest first."""
        with self._lock:
            return list(self._recent)


def _age_s(then_ns: int | None) -> float | None:
    return None if then_ns is None else max(0.0, (now_ns() - then_ns) / 1e9)
