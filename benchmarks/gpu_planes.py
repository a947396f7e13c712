"""Two ways from a decoded frame to its picture: around the network on the CPU, or on the GPU.

Used by ``gpu.py``, which needs an NVIDIA GPU.
"""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.engines.planes import PlanesEngine
from rtseg.engines.preprocess import to_engine_input
from rtseg.realtime.frame import Frame
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.yuv import planes_420


def frames_of(clip: Path, count: int) -> list[Frame]:
    """Return a clip's first frames."""
    frames = []
    with open_source(str(clip)) as source:
        for frame in source.frames():
            frames.append(Frame(len(frames), frame.video, frame.pts, Fraction(frame.time_base)))
            if len(frames) == count:
                break
    return frames


def two_ways(engine: Engine, clip: Path, rounds: int) -> dict[str, Any]:
    """Take frames both ways, in turn, one at a time.

    Args:
        engine: of a GPU.
        clip: video, 8-bit 4:2:0.
        rounds: how often each of 40 frames goes each way.

    Returns:
        Milliseconds from frame to picture for both; the share of pixels with the same class;
        by how many levels the GPU's picture differs at most from the renderer's of the same
        classes; ``failed`` alone, with the reason, where the engine has no kernels.
    """
    if not isinstance(engine, PlanesEngine):
        return {"failed": f"{engine.profile().backend} takes no planes"}
    try:
        engine.prepare_planes()
    except EngineError as error:
        return {"failed": str(error)}
    renderer = Renderer(engine.spec.classes)
    spent: dict[str, list[float]] = {"cpu": [], "gpu": []}
    same, furthest = [], 0
    frames = frames_of(clip, 40)
    for number in range(rounds + 1):  # the first round warms up
        for frame in frames:
            began = time.perf_counter()
            pixels = to_engine_input(frame.video, engine.spec.height, engine.spec.width)
            ids = engine.infer(pixels[None])[0]
            renderer.render(frame, ids)
            between = time.perf_counter()
            begun = renderer.begin(frame)
            if begun is None:
                return {"failed": f"{frame.video.format.name} is painted by the CPU"}
            handle = engine.submit_planes(begun.source, begun.colours, begun.paint)
            own_ids = engine.result(handle)[0]
            picture = renderer.finish(begun, frame)
            ended = time.perf_counter()
            if number == 0:
                same.append(float((ids == own_ids).mean()))
                wanted = renderer.render(frame, own_ids)
                for found, other in zip(planes_420(picture), planes_420(wanted), strict=True):
                    furthest = max(furthest, int(np.abs(found.astype(int) - other).max()))
            else:
                spent["cpu"].append((between - began) * 1e3)
                spent["gpu"].append((ended - between) * 1e3)
    row: dict[str, Any] = {
        f"{way}_ms": {f"p{of}": float(np.percentile(times, of)) for of in (50, 99)}
        for way, times in spent.items()
    }
    size = f"{frames[0].video.width}x{frames[0].video.height}"
    return {**row, "frame": size, "same_class": float(np.mean(same)), "levels": furthest}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows as lines of Markdown."""
    lines = [
        "",
        "| frame to picture | precision | around the network on the CPU, p50 / p99 ms "
        "| all on the GPU | pixels with the same class | furthest from the renderer, levels |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['backend']} | {row['precision']} | {row['failed']} ||||")
            continue
        cpu, gpu = row["cpu_ms"], row["gpu_ms"]
        lines.append(
            f"| {row['backend']}, {row['frame']} | {row['precision']} | "
            f"{cpu['p50']:.2f} / {cpu['p99']:.2f} | {gpu['p50']:.2f} / {gpu['p99']:.2f} | "
            f"{row['same_class']:.2%} | {row['levels']} |"
        )
    return lines
