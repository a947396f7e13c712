"""What the HTML report draws over time, in memory that does not grow: counts and recent spans."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rtseg.engines.labels import ClassTable
from rtseg.realtime.frame import U8
from rtseg.realtime.trace import Trace

OUT = "out"
"""Name of the frames that came out, among the reasons of those that did not."""

RECENT_SPANS = 1500
"""How many of the last spans are kept: some hundred frames."""

_PIXEL_STEP = 4  # every fourth row and column of the class ids is enough for their shares


class BinnedCounts:
    """Counts by name over time, in at most ``bins`` equal stretches of time.

    When the time is over that they cover, neighbours are merged, so that a run of a week is
    kept as coarsely as it will be looked at. No count is ever lost.

    Args:
        bins: an even number of stretches, at least 2.
        width_s: length of a stretch at first, in seconds.

    >>> counts = BinnedCounts(2, width_s=1.0)
    >>> for time_s in (0.5, 1.5, 3.5):
    ...     counts.add(time_s, {"out": 1})
    >>> counts.width_s, [dict(part) for part in counts.parts()]
    (2.0, [{'out': 2}, {'out': 1}])
    """

    def __init__(self, bins: int = 240, *, width_s: float = 0.25) -> None:
        if bins < 2 or bins % 2:
            raise ValueError(f"the number of bins is even, from 2 on. Received: {bins}")
        self._bins = bins
        self._parts: list[Counter[str]] = []
        self.width_s = width_s

    def add(self, time_s: float, counts: Mapping[str, int]) -> None:
        """Add counts at a time, in seconds from the beginning; earlier times are allowed."""
        place = max(0, int(time_s / self.width_s))
        while place >= self._bins:
            padded = [*self._parts, Counter()] if len(self._parts) % 2 else self._parts
            self._parts = [a + b for a, b in zip(padded[::2], padded[1::2], strict=True)]
            self.width_s *= 2
            place = int(time_s / self.width_s)
        while len(self._parts) <= place:
            self._parts.append(Counter())
        self._parts[place].update(counts)

    def parts(self) -> list[Counter[str]]:
        """Return a copy of the counts of every stretch, from time 0 on."""
        return [part.copy() for part in self._parts]


@dataclass(frozen=True)
class Span:
    """What one thread (or the engine) did for a frame, on :func:`now_ns`'s clock."""

    thread: str
    name: str
    start_ns: int
    end_ns: int
    frame: int


class History:
    """Keeps what happened; may be called from every thread.

    Args:
        classes: names and colours of the classes.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self._lock = threading.Lock()
        self._frames = BinnedCounts()
        self._pixels = BinnedCounts()
        self._spans: deque[Span] = deque(maxlen=RECENT_SPANS)

    def frame(self, time_s: float, outcome: str, count: int = 1) -> None:
        """Count frames that came out (:data:`OUT`) or did not, by reason."""
        with self._lock:
            self._frames.add(time_s, {outcome: count})

    def labels(self, time_s: float, labels: U8) -> None:
        """Count the class ids of a frame, uint8, H×W."""
        some = np.bincount(labels[::_PIXEL_STEP, ::_PIXEL_STEP].ravel(), minlength=256)
        names = self.classes.names
        counts = {name: int(some[index]) for index, name in enumerate(names) if some[index]}
        with self._lock:
            self._pixels.add(time_s, counts)

    def span(self, span: Span) -> None:
        """Keep a span; the oldest ones are forgotten."""
        with self._lock:
            self._spans.append(span)

    def frames_over_time(self) -> tuple[float, list[Counter[str]]]:
        """Return the seconds of a stretch, and the frames of every stretch by outcome."""
        with self._lock:
            return self._frames.width_s, self._frames.parts()

    def classes_over_time(self) -> tuple[float, list[Counter[str]]]:
        """Return the seconds of a stretch, and the pixels of every stretch by class."""
        with self._lock:
            return self._pixels.width_s, self._pixels.parts()

    def spans(self) -> list[Span]:
        """Return the recent spans, in the order in which they ended."""
        with self._lock:
            return list(self._spans)


class HistoryTrace(Trace):
    """Hands what is traced to a history as well.

    Args:
        trace: where everything goes.
        history: gets the spans.
    """

    ENGINE = "engine"

    def __init__(self, trace: Trace, history: History) -> None:
        self._trace = trace
        self._history = history

    def span(self, name: str, start_ns: int, end_ns: int, frame: int | None = None) -> None:
        """Note what the calling thread did; see :meth:`Trace.span`."""
        self._trace.span(name, start_ns, end_ns, frame)
        if frame is not None:
            thread = threading.current_thread().name.removeprefix("rtseg-")
            self._history.span(Span(thread, name, start_ns, end_ns, frame))

    def overlapping(
        self, name: str, start_ns: int, end_ns: int, frame: int, **details: float
    ) -> None:
        """Note what happened to a frame; see :meth:`Trace.overlapping`."""
        self._trace.overlapping(name, start_ns, end_ns, frame, **details)
        if "infer_ms" in details:
            begun_ns = max(start_ns, end_ns - int(details["infer_ms"] * 1e6))
            self._history.span(Span(self.ENGINE, "infer", begun_ns, end_ns, frame))

    def instant(self, name: str) -> None:
        """Note that something happened; see :meth:`Trace.instant`."""
        self._trace.instant(name)

    def of(self, source: str) -> Trace:
        """Return a trace of one source; see :meth:`Trace.of`."""
        return HistoryTrace(self._trace.of(source), self._history)

    def close(self) -> None:
        """Finish; see :meth:`Trace.close`."""
        self._trace.close()
