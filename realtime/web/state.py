"""What the live page says of the run: numbers, drops, the health of every stream."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rtseg.engines.labels import ClassTable
from rtseg.engines.versions import own_version
from rtseg.realtime.controls import Controls
from rtseg.realtime.frame import Rendered, SourceInfo
from rtseg.realtime.histogram import nearest_rank
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.sink import SinkContext
from rtseg.realtime.sinks.stale import stale_after_s
from rtseg.realtime.web.commands import view_state

SAMPLE_S = 0.5
"""How often numbers are taken and sent."""

HISTORY = 240
"""How many samples are kept for pages that come later: two minutes."""

RATE_SAMPLES = 4
"""Over how many samples a rate is taken, so that it does not jump by whole frames."""

RECENT = 90
"""Over how many of the last frames percentiles are taken."""

Health = Literal["waiting", "live", "stalled", "reconnecting", "paused", "ended", "failed"]


@dataclass(frozen=True)
class StreamHealth:
    """How one stream is.

    Attributes:
        name: what the user typed, without any password.
        state: what it is doing; a file that comes slowly is live all the same.
        age_s: how old its newest frame is, or None before the first.
        frames: frames that it gave so far.
        reconnects: how often it came back.
        stalls: how often it gave nothing for too long.
    """

    name: str
    state: Health
    age_s: float | None = None
    frames: int = 0
    reconnects: int = 0
    stalls: int = 0


Streams = Callable[[], Sequence[StreamHealth]]


def health_of(
    name: str, profiler: Profiler, info: SourceInfo | None, controls: Controls
) -> StreamHealth:
    """Return how a stream is, from its clocks.

    Args:
        name: what it is called.
        profiler: its clocks and counters.
        info: what its source says of itself, or None while that is not known.
        controls: whether a viewer has paused it.
    """
    age_s = profiler.last_frame_age_s()
    state: Health = "live"
    if profiler.ended is not None:
        state = "failed" if profiler.ended.isupper() else "ended"
    elif profiler.away:
        state = "reconnecting"
    elif age_s is None or info is None:
        state = "waiting"
    elif controls.paused:
        state = "paused"
    elif info.live and age_s > stale_after_s(info):  # a file is as slow as what looks at it
        state = "stalled"
    return StreamHealth(
        name, state, age_s, profiler.frames_in, profiler.reconnects, profiler.stalls
    )


class RunState:
    """Samples the run for the page; belongs to the server's event loop.

    Args:
        context: source, engine and picture size.
        classes: names and colours in use.
        profiler: the run's clocks and counters.
        controls: the view as it is now.
        streams: the health of every stream.
    """

    def __init__(
        self,
        context: SinkContext,
        classes: ClassTable,
        profiler: Profiler,
        controls: Controls,
        streams: Streams,
    ) -> None:
        self._context = context
        self._classes = classes
        self._profiler = profiler
        self._controls = controls
        self._streams = streams
        self._begun_s = time.monotonic()
        self._counted: deque[tuple[float, int, int]] = deque(maxlen=RATE_SAMPLES)
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    def about(self) -> dict[str, Any]:
        """Return what does not change during the run."""
        source, engine = self._context.source, self._context.engine
        ratio = source.sample_aspect_ratio
        pairs = zip(self._classes.names, self._classes.palette, strict=True)
        return {
            "version": own_version(),
            "source": source.name,
            "live": source.live,
            "size": [source.width, source.height],
            "fps": float(source.fps) if source.fps else None,
            "pixel_ratio": float(ratio) if ratio > 0 else 1.0,
            "network": engine.network,
            "input": [engine.width, engine.height],
            "views": list(self._controls.views),
            "classes": [{"name": name, "colour": list(colour)} for name, colour in pairs],
            "sample_s": SAMPLE_S,
        }

    def sample(self) -> dict[str, Any]:
        """Take the numbers of the last stretch and keep them in :attr:`history`."""
        profiler, now_s = self._profiler, time.monotonic()
        self._counted.append((now_s, profiler.frames_in, profiler.frames_out))
        before_s, before_in, before_out = self._counted[0]
        elapsed_s = max(1e-3, now_s - before_s)
        out = profiler.frames_out - before_out
        latencies = sorted(record.latency_ms for record in profiler.recent()[-RECENT:])
        known = bool(latencies and out)
        sample = {
            "t": round(now_s - self._begun_s, 2),
            "fps": round(out / elapsed_s, 2),
            "fps_in": round((profiler.frames_in - before_in) / elapsed_s, 2),
            "p50": round(nearest_rank(latencies, 50), 2) if known else None,
            "p95": round(nearest_rank(latencies, 95), 2) if known else None,
            "p99": round(nearest_rank(latencies, 99), 2) if known else None,
        }
        self.history.append(sample)
        return sample

    def numbers(self) -> dict[str, Any]:
        """Return counters, stages, streams and the view as they are now."""
        profiler = self._profiler
        recent = profiler.recent()[-RECENT:]
        stages: dict[str, float] = {}
        for record in recent:
            for name, value_ms in record.stages_ms.items():
                stages[name] = stages.get(name, 0.0) + value_ms / len(recent)
        return {
            "frames_in": profiler.frames_in,
            "frames_out": profiler.frames_out,
            "dropped": profiler.dropped,
            "elapsed_s": round(profiler.elapsed_s, 1),
            "stages": {name: round(value_ms, 2) for name, value_ms in stages.items()},
            "streams": [dataclasses.asdict(stream) for stream in self._streams()],
            "stale_s": stale_after_s(self._context.source),
        }

    def view(self) -> dict[str, Any]:
        """Return the view and whether the run is paused."""
        state = view_state(self._controls.options, len(self._classes))
        return {**state, "paused": self._controls.paused}

    def shares(self, item: Rendered | None) -> list[float]:
        """Return the share of each class in a frame's pixels, or nothing without a frame."""
        if item is None:
            return []
        counts = np.bincount(item.labels.ravel(), minlength=256)
        return [round(float(count) / item.labels.size, 4) for count in counts[: len(self._classes)]]
