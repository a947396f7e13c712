"""``--quality auto``: the best network that keeps up, chosen by a short probe at the start."""

from __future__ import annotations

import argparse
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rtseg.engines.engine import Engine
from rtseg.engines.quality import QualityPoint, quality_points
from rtseg.realtime.early import AUTO
from rtseg.realtime.environment import cpu_seconds
from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import U8, SourceInfo
from rtseg.realtime.log import NOTICE
from rtseg.realtime.shape import shaped

_log = logging.getLogger("rtseg.realtime")

PROBE_S = 0.4
"""How long each network is tried."""

ROOM = 0.85
"""Share of what a probe reaches that is counted on; the rest is for everybody else's work."""

DEFAULT_FPS = 30.0
"""Asked for where a source names no frame rate."""

DEFAULT_MODEL = "espnet-lite"

REST_CPU_MS_PER_MEGAPIXEL = 14.4
"""Decode, scaling, blending and encoding, CPU time a frame for each million pixels of it:
``benchmarks/floor.py`` on the machine of the quality table."""


@dataclass(frozen=True)
class Probe:
    """How a network did.

    Attributes:
        fps: its own rate, with as many inferences in flight as the loop would keep.
        cpu_ms: CPU time of this process for one inference.
    """

    fps: float
    cpu_ms: float


def wanted_fps(info: SourceInfo, *, max_fps: float | None = None, stride: int = 1) -> float:
    """Return the frames a second that have to be processed to keep up with a source."""
    fps = float(info.fps) if info.fps else DEFAULT_FPS
    fps /= max(1, stride)
    return min(fps, max_fps) if max_fps else fps


def loop_fps(probe: Probe, point: QualityPoint, pixels: int) -> float:
    """Return the rate that the whole loop can be counted on to reach.

    The loop's other work shares the cores with the network. It is known for the machine of
    the quality table and scaled by how much faster or slower the network ran here.

    Args:
        probe: the network alone.
        point: the network on the table's machine.
        pixels: of a frame.
    """
    speed = min(3.0, max(0.5, probe.cpu_ms / point.cpu_ms)) if point.cpu_ms > 0 else 1.0
    rest_ms = REST_CPU_MS_PER_MEGAPIXEL * pixels / 1e6 * speed
    share = probe.cpu_ms / (probe.cpu_ms + rest_ms) if probe.cpu_ms > 0 else 1.0
    return ROOM * probe.fps * share


def probe_engine(engine: Engine, *, in_flight: int, seconds: float = PROBE_S) -> Probe:
    """Run a network on made-up street-like pictures for a moment.

    Args:
        engine: open; nothing is in flight.
        in_flight: how many inferences are kept in flight.
        seconds: about how long.
    """
    pictures = _pictures(engine.spec.height, engine.spec.width)
    engine.infer(next(pictures))
    running = deque(engine.submit(next(pictures)) for _ in range(max(1, in_flight)))
    done = 0
    begin_s, begin_cpu_s = time.perf_counter(), cpu_seconds()
    while True:
        engine.result(running.popleft())
        done += 1
        elapsed_s = time.perf_counter() - begin_s
        if elapsed_s >= seconds and done >= 3:
            break
        running.append(engine.submit(next(pictures)))
    cpu_s = cpu_seconds() - begin_cpu_s
    for handle in running:
        engine.result(handle)
    return Probe(fps=done / elapsed_s, cpu_ms=1e3 * cpu_s / done)


def open_best(
    points: Sequence[QualityPoint],
    open_at: Callable[[str], Engine],
    info: SourceInfo,
    *,
    fps: float,
    probe: Callable[[Engine], Probe],
) -> Engine:
    """Open the best network that keeps up with a source, else the fastest.

    Args:
        points: the levels there are, fastest first.
        open_at: opens the network at a level.
        info: the source.
        fps: the rate to keep up with.
        probe: measures an open network; see :func:`probe_engine`.

    Returns:
        An open engine whose ``quality`` says what was chosen and why.

    Raises:
        UsageError: the network comes in one size only.
        EngineError: one of them cannot be opened.
    """
    if not points:
        raise UsageError("this network comes in one quality only. Allowed: leave --quality out")
    pixels = info.width * info.height
    tried: list[str] = []
    for point in reversed(points):
        engine = open_at(point.quality)
        try:
            reaches = loop_fps(probe(engine), point, pixels)
        except BaseException:
            engine.close()
            raise
        tried.append(f"{point.quality} reaches about {reaches:.0f}")
        if reaches >= fps or point is points[0]:
            slow = "" if reaches >= fps else "; none keeps up"
            engine.quality = (
                f"{point}: {fps:.4g} frames/s are wanted, {', '.join(tried)}{slow} (--quality auto)"
            )
            _log.log(NOTICE, "quality %s", engine.quality)
            return engine
        engine.close()
    raise AssertionError


def open_asked(options: argparse.Namespace, info: SourceInfo) -> Engine:
    """Open the engine that the command's options ask for, as it suits a source.

    Raises:
        UsageError: as :func:`open_chosen`.
        EngineError: the engine cannot be opened.
    """
    return suited(open_chosen(options, info), options, info)


def suited(engine: Engine, options: argparse.Namespace, info: SourceInfo) -> Engine:
    """Return an engine of :func:`open_chosen` as it suits a source, with key frames if asked for.

    Args:
        engine: open; it belongs to what is returned, or is closed.
        options: as there.
        info: the source, open.

    Raises:
        EngineError: an engine of the source's shape cannot be opened.
    """
    live = info.live
    engine = shaped(engine, options, info, lambda size: _opener(options, live=live)(size=size))
    every: int = options.keyframes
    if every < 2:
        return engine
    from rtseg.engines.keyframes import KeyframeEngine

    return KeyframeEngine(engine, every)


def open_chosen(options: argparse.Namespace, info: SourceInfo) -> Engine:
    """Open the engine in the quality that the command's options ask for.

    Args:
        options: as :mod:`rtseg.realtime.arguments` gives them.
        info: the source: whether time waits for it, its frame rate and size; of several the
            rates together and a usual size.

    Raises:
        UsageError: a quality where there is no choice.
        EngineError: the engine cannot be opened.
    """
    if options.engine is not None and options.model is not None:
        raise UsageError(
            "--model names a shipped network, --engine a file: allowed is one of them. Received: "
            f"--model {options.model} with --engine {options.engine}"
        )
    open_ = _opener(options, live=info.live)
    quality: str | None = options.quality
    if quality is None:
        return open_()
    if options.input_size is not None:
        raise UsageError(
            "--quality and --input-size both say how large the network's input is: allowed is one "
            f"of them. Received: --quality {quality} with a size"
        )
    if options.engine is not None:
        raise UsageError(
            "--quality chooses among the sizes of a shipped network. Received: --engine "
            f"{options.engine} with --quality {quality}"
        )
    points = quality_points(options.model or DEFAULT_MODEL)
    if quality == AUTO:
        latest = options.drop_policy == "latest" or (options.drop_policy is None and info.live)
        return open_best(
            points,
            lambda quality: open_(quality=quality),
            info,
            fps=wanted_fps(info, max_fps=options.max_fps, stride=options.stride),
            probe=lambda engine: probe_engine(engine, in_flight=1 if latest else engine.requests),
        )
    engine = open_(quality=quality)
    engine.quality = next((str(p) for p in points if p.quality == quality), "")
    return engine


def _opener(options: argparse.Namespace, *, live: bool) -> partial[Engine]:
    from rtseg.engines.registry import open_engine

    return partial(
        open_engine,
        None if options.engine is None else Path(options.engine),
        model=options.model or DEFAULT_MODEL,
        backend=options.backend,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        mode="latency" if live else "throughput",
        size=options.input_size,
    )


def _pictures(height: int, width: int) -> Iterator[U8]:
    """Yield pictures of coarse, soft patches for ever: about as many outlines as a street has."""
    random = np.random.default_rng(0)
    rows, columns = -(-height // 64), -(-width // 64)
    made = []
    for _ in range(4):
        coarse = random.integers(0, 256, (rows, columns, 3), np.uint8)
        large = coarse.repeat(64, 0).repeat(64, 1)[:height, :width]
        made.append(np.ascontiguousarray(large)[None])
    return itertools.cycle(made)
