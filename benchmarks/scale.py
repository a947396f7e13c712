"""How throughput and memory grow: with frame size, cores, clip length, streams, batches.

The clip is scaled to each size once (H.264, ultrafast), then played through the whole loop.

    python benchmarks/scale.py [--clip FILE] [--runs 3] [--only sizes|cores|lengths|streams|…]…
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
from common import clip_or_generated, machine, median_and_spread, run_loop

from rtseg.engines.preprocess import to_engine_input
from rtseg.engines.registry import open_engine

SIZES = ((640, 360), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160))
LENGTHS = (1, 4, 16)
BATCHES = (1, 2, 4, 8)
STREAMS = (1, 2, 4, 8)
FRAMES = 100

Runs = list[dict[str, Any]]


def scaled(clip: Path, size: tuple[int, int], folder: Path) -> Path:
    """Write the clip's first frames at another size; return the file."""
    target = folder / f"{size[0]}x{size[1]}.mp4"
    with av.open(str(clip)) as source, av.open(str(target), "w") as result:
        stream: Any = result.add_stream(
            "libx264", rate=30, options={"preset": "ultrafast", "crf": "20"}
        )
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index, frame in enumerate(itertools.islice(source.decode(video=0), FRAMES)):
            picture = frame.reformat(*size, format="yuv420p")
            picture.pts = index
            result.mux(stream.encode(picture))
        result.mux(stream.encode(None))
    return target


def loop(clip: Path, folder: Path, laps: int, **how: Any) -> dict[str, Any]:
    """Run the loop once."""
    arguments = ["--source", str(clip), "--out", str(folder / "seg.mp4"), "-y"]
    return figures_of(run_loop([*arguments, "--loop", str(laps), "--no-audio"], **how))


def figures_of(report: dict[str, Any]) -> dict[str, Any]:
    """Return what the tables show of one run."""
    return {
        "fps": report["throughput_fps"],
        "cpu_ms": report["cpu_ms_per_frame"],
        "cores": report["cores_busy"],
        "memory_mib": report["peak_memory_mib"],
        "frames": report["frames_out"],
    }


def sizes(clip: Path, folder: Path, runs: int) -> dict[str, Runs]:
    """Throughput and memory by frame size."""
    found = {}
    for size in SIZES:
        file = scaled(clip, size, folder)
        laps = 3 if size[0] <= 1920 else 1
        found[f"{size[0]}x{size[1]}"] = [loop(file, folder, laps) for _ in range(runs)]
        file.unlink()
    return found


def cores(clip: Path, folder: Path, runs: int) -> dict[str, Runs]:
    """Throughput by cores the process may use."""
    usable = sorted(os.sched_getaffinity(0))
    counts = sorted({1, 2, 4, 8, len(usable)} & set(range(1, len(usable) + 1)))
    return {
        f"{count} core{'s' if count > 1 else ''}": [
            loop(clip, folder, 3, cores=usable[:count]) for _ in range(runs)
        ]
        for count in counts
    }


def lengths(clip: Path, folder: Path, runs: int) -> dict[str, Runs]:
    """Throughput and memory by clip length."""
    found = {laps: [loop(clip, folder, laps) for _ in range(runs)] for laps in LENGTHS}
    return {f"{runs_[0]['frames']} frames": runs_ for runs_ in found.values()}


def streams(clip: Path, folder: Path, runs: int) -> dict[str, Runs]:
    """Several sources through one engine into one grid picture: frames of all of them."""
    found = {}
    for count in STREAMS:
        sources = ["--source", str(clip)] * count
        rows = []
        for _ in range(runs):
            report = run_loop(
                [
                    *(*sources, "--out", str(folder / "seg.mp4"), "-y"),
                    *("--max-frames", str(max(25, 200 // count))),
                ]
            )
            rows.append(figures_of(report))
        found[f"{count} stream{'s' if count > 1 else ''}"] = rows
    return found


def batches(clip: Path, folder: Path, runs: int) -> dict[str, Runs]:
    """The network alone by batch: how many frames are handed over at once."""
    found: dict[str, Runs] = {}
    import numpy as np

    with open_engine() as engine, av.open(str(clip)) as container:
        spec = engine.spec
        frames = [
            to_engine_input(frame, spec.height, spec.width)
            for frame in itertools.islice(container.decode(video=0), 16)
        ]
        for size in BATCHES:
            pool = [np.stack([frames[(i + j) % 16] for j in range(size)]) for i in range(4)]
            found[f"batch {size}"] = [one_batch(engine, pool) for _ in range(runs)]
    return found


def one_batch(engine: Any, pool: list[Any], seconds: float = 3.0) -> dict[str, Any]:
    """Return rate and CPU time a frame of ``infer`` called with one batch after the other."""
    engine.infer(pool[0])
    done, begin_s, begin_cpu_s = 0, time.perf_counter(), time.process_time()
    for batch in itertools.cycle(pool):
        engine.infer(batch)
        done += len(batch)
        elapsed_s = time.perf_counter() - begin_s
        if elapsed_s >= seconds:
            break
    cpu_s = time.process_time() - begin_cpu_s
    return {
        "fps": done / elapsed_s,
        "cpu_ms": 1e3 * cpu_s / done,
        "cores": cpu_s / elapsed_s,
        "memory_mib": 0.0,
        "frames": done,
    }


PARTS: dict[str, Callable[[Path, Path, int], dict[str, Runs]]] = {
    "sizes": sizes,
    "cores": cores,
    "lengths": lengths,
    "streams": streams,
    "batches": batches,
}


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=tuple(PARTS), action="append", default=[])
    parser.add_argument("--json", type=Path, help="the figures, for other programs")
    options = parser.parse_args()
    figures: dict[str, dict[str, Runs]] = {}
    print(f"machine   {machine()}")
    with clip_or_generated(options.clip) as clip, tempfile.TemporaryDirectory() as name:
        print(f"clip      {clip.name}; {options.runs} runs, median (least – most)")
        for part in options.only or PARTS:
            figures[part] = PARTS[part](clip, Path(name), options.runs)
            print_part(part, figures[part])
    if options.json:
        record = {"machine": machine(), "clip": clip.name, **figures}
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def print_part(part: str, rows: dict[str, Runs]) -> None:
    """Print one table in Markdown."""
    print(f"\n| {part} | frames/s | CPU-ms a frame | cores busy | memory at most, MiB |")
    print("|---|---|---|---|---|")
    for name, runs in rows.items():
        cells = [median_and_spread([run[key] for run in runs]) for key in ("fps", "cpu_ms")]
        busy = median_and_spread([run["cores"] for run in runs], 2)
        memory = max(run["memory_mib"] for run in runs)
        shown = f"{memory:.0f}" if memory else "–"
        print(f"| {name} | {' | '.join(cells)} | {busy} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
