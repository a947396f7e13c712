"""Several engines measured side by side: interleaved rounds, each against a baseline."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rtseg.engines.engine import U8, Engine, EngineTiming, Handle

KEPT = 32
"""Frames of the data that are shown in turn; they are held in memory."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Candidate:
    """What is to be measured.

    Attributes:
        name: what it is called in the report.
        file: an engine file, or None for the shipped network.
        backend: as :func:`rtseg.engines.open_engine` takes it.
        precision: likewise; None for the fastest.
    """

    name: str
    file: str | None
    backend: str
    precision: str | None


@dataclass
class Measured:
    """What was seen of one engine, all times in milliseconds.

    Attributes:
        latency_ms: handing over to fetched, one frame at a time, over all rounds.
        compute_ms: the computation in that, copies left out.
        copies_ms: the copies to and from a device in that; zeros on a CPU.
        loaded_ms: the computation with as many frames in flight as the engine takes.
        latency_by_round: median latency of each round.
        fps_by_round: throughput of each round with that many in flight, frames/s.
        cpu_ms_by_round: CPU time of the process for a frame in that, each round.
    """

    latency_ms: list[float] = field(default_factory=list)
    compute_ms: list[float] = field(default_factory=list)
    copies_ms: list[float] = field(default_factory=list)
    loaded_ms: list[float] = field(default_factory=list)
    latency_by_round: list[float] = field(default_factory=list)
    fps_by_round: list[float] = field(default_factory=list)
    cpu_ms_by_round: list[float] = field(default_factory=list)


def frames_for(engine: Engine, data: Sequence[Path]) -> list[U8]:
    """Return single frames (1×H×W×3) of an engine's size: of the data, or noise without any.

    Raises:
        CalibrationError: the data cannot be read, or hold no picture.
    """
    spec = engine.spec
    if not data:
        random = np.random.default_rng(0)
        shape = (1, spec.height, spec.width, 3)
        # Two in turn, so that nothing can be remembered from one to the next.
        return [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(2)]
    from rtseg.calibration.calibration_set import select_images

    chosen = select_images(list(data), KEPT)
    return [frame[np.newaxis] for frame in chosen.frames(spec.height, spec.width, spec.fit)]


def measure(
    engines: Sequence[Engine],
    frames: Sequence[Sequence[U8]],
    *,
    rounds: int,
    warmup: int,
    count: int,
    progress: Progress | None = None,
) -> list[Measured]:
    """Measure engines in turn, round by round, so that a machine's moods meet all of them.

    Every round begins with another engine. A round of one engine is ``count`` frames one at
    a time, then ``count`` frames with as many in flight as it takes.

    Args:
        engines: open engines.
        frames: the frames of each engine, shown in turn.
        rounds: how often each is measured.
        warmup: frames of each engine before the first round.
        count: frames of each measurement.
        progress: told how many rounds of an engine are done.

    Returns:
        In the order of the engines.
    """
    found = [Measured() for _ in engines]
    for engine, shown in zip(engines, frames, strict=True):
        for index in range(warmup):
            engine.infer(shown[index % len(shown)])
    for turn in range(rounds):
        for place in range(len(engines)):
            which = (turn + place) % len(engines)
            _one_by_one(engines[which], frames[which], count, found[which])
            _flood(engines[which], frames[which], count, found[which])
            if progress is not None:
                progress("measure", turn * len(engines) + place + 1, rounds * len(engines))
    return found


def _one_by_one(engine: Engine, frames: Sequence[U8], count: int, found: Measured) -> None:
    here_ms = []
    for index in range(count):
        began = time.perf_counter()
        handle = engine.submit(frames[index % len(frames)])
        engine.result(handle)
        here_ms.append((time.perf_counter() - began) * 1e3)
        found.compute_ms.append(_timing(handle).infer_ms)
        found.copies_ms.append(_timing(handle).upload_ms + _timing(handle).download_ms)
    found.latency_ms += here_ms
    found.latency_by_round.append(float(np.median(here_ms)))


def _flood(engine: Engine, frames: Sequence[U8], count: int, found: Measured) -> None:
    waiting: deque[Handle] = deque()
    cpu_s, began = time.process_time(), time.perf_counter()
    for index in range(count + engine.requests):
        if index >= engine.requests and waiting:
            handle = waiting.popleft()
            engine.result(handle)
            found.loaded_ms.append(_timing(handle).infer_ms)
        if index < count:
            waiting.append(engine.submit(frames[index % len(frames)]))
    found.fps_by_round.append(count / (time.perf_counter() - began))
    found.cpu_ms_by_round.append((time.process_time() - cpu_s) * 1e3 / count)


def _timing(handle: Handle) -> EngineTiming:
    from rtseg.engines.engine import EngineTiming

    return handle.timing or EngineTiming(infer_ms=float("nan"))


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """Return mean, p50, p90, p95, p99 and max."""
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values_ms, (50, 90, 95, 99)))
    mean, largest = float(np.mean(values_ms)), max(values_ms)
    return {"mean": mean, "p50": p50, "p90": p90, "p95": p95, "p99": p99, "max": largest}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median of some rounds, with the least and the most."""
    return {"median": float(np.median(values)), "least": min(values), "most": max(values)}


def figures(found: Measured) -> dict[str, Any]:
    """Return one engine's figures for a record."""
    copies = {"copies_ms": percentiles(found.copies_ms)} if any(found.copies_ms) else {}
    return {
        "latency_ms": percentiles(found.latency_ms),
        "compute_ms": percentiles(found.compute_ms),
        **copies,
        "compute_loaded_ms": percentiles(found.loaded_ms),
        "throughput_fps": spread(found.fps_by_round)["median"],
        "cpu_ms_a_frame": spread(found.cpu_ms_by_round)["median"],
        "rounds": {
            "latency_ms": spread(found.latency_by_round),
            "throughput_fps": spread(found.fps_by_round),
            "cpu_ms_a_frame": spread(found.cpu_ms_by_round),
        },
    }


def against(found: Measured, baseline: Measured) -> dict[str, dict[str, float]]:
    """Return how many times as fast an engine is, from the ratios of each round."""
    pairs = zip(baseline.latency_by_round, found.latency_by_round, strict=True)
    faster = [base / mine for base, mine in pairs]
    rates = zip(baseline.fps_by_round, found.fps_by_round, strict=True)
    return {
        "latency_speedup": spread(faster),
        "throughput_speedup": spread([mine / base for base, mine in rates]),
    }
