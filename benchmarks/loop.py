"""The loop beside its floor and beside the network alone, on one clip, in one run.

The floor is what decode, scaling, network, upsampling, blending and encode cost alone
(``benchmarks/floor.py``), in CPU time a frame; the ratio to the loop's CPU time is what the
loop adds. Inside the loop's figure: decode, resize, network, colouring, H.264 encode, writing
the file; from the first frame decoded to the last one written, start-up left out. Inside the
network's: the clip's first frames, resized and in memory already, to class ids at the input's
size.

    python benchmarks/loop.py [--clip FILE] [--runs 5] [--laps 5] [-- options of rt-seg]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
from common import clip_or_generated, machine, median_and_spread, run_loop
from floor import Floor, print_floor

from rtseg.engines.preprocess import to_engine_input
from rtseg.engines.registry import open_engine


def network_alone(clip: Path, seconds: float, precision: str | None) -> tuple[float, str]:
    """Return the network's own throughput in frames/s, all requests kept in flight."""
    with open_engine(precision=precision) as engine:
        spec = engine.spec
        with av.open(str(clip)) as container:
            first = itertools.islice(container.decode(video=0), 8)
            inputs = [to_engine_input(frame, spec.height, spec.width)[None] for frame in first]
        source = itertools.cycle(inputs)
        for _ in range(5):
            engine.infer(next(source))
        handles = [engine.submit(next(source)) for _ in range(engine.requests)]
        done = 0
        begin_s = time.perf_counter()
        while (elapsed_s := time.perf_counter() - begin_s) < seconds:
            engine.result(handles.pop(0))
            done += 1
            handles.append(engine.submit(next(source)))
        for handle in handles:
            engine.result(handle)
        profile = engine.profile()
        about = (
            f"{spec.network} {spec.width}x{spec.height} {profile.precision}, "
            f"{profile.requests} requests, {profile.threads} threads"
        )
        return done / elapsed_s, about


def measure(options: argparse.Namespace, clip: Path, output: Path) -> dict[str, Any]:
    """Return the figures of one run: floor, network alone, loop."""
    extra = ["--precision", options.precision] if options.precision else []
    steps = Floor(clip, options.precision).measure(options.seconds)
    alone, about = network_alone(clip, options.seconds, options.precision)
    report = run_loop(
        [
            *("--source", str(clip), "--out", str(output), "-y"),
            *("--loop", str(options.laps), *extra, *options.rest),
        ]
    )
    floor_ms = sum(steps.values())
    return {
        "floor_steps_ms": steps,
        "floor_ms": floor_ms,
        "network_fps": alone,
        "engine": about,
        "loop_fps": report["throughput_fps"],
        "loop_cpu_ms": report["cpu_ms_per_frame"],
        "ratio": report["cpu_ms_per_frame"] / floor_ms,
        "cores_busy": report["cores_busy"],
        "latency_p50_ms": report["latency"]["p50_ms"],
        "memory_mib": report["peak_memory_mib"],
        "frames": report["frames_out"],
        "source_size": report["environment"]["source_size"],
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", help="a video (default: the 720p clip of the test data)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--laps", type=int, default=5, help="how often the clip is played a run")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each step of the floor")
    parser.add_argument("--precision", help="as rt-seg's")
    parser.add_argument("--json", type=Path, help="the figures, for other programs")
    parser.add_argument("rest", nargs="*", help="options passed on to rt-seg, after --")
    options = parser.parse_args()
    with (
        clip_or_generated(options.clip) as clip,
        tempfile.TemporaryDirectory() as folder,
    ):
        runs = [measure(options, clip, Path(folder) / "seg.mp4") for _ in range(options.runs)]
    print(f"machine   {machine()}")
    print(
        f"clip      {clip.name}: {runs[0]['source_size']}, "
        f"{runs[0]['frames']} frames; {options.runs} runs, median (least – most)"
    )
    print(f"engine    {runs[0]['engine']}")
    print_floor([run["floor_steps_ms"] for run in runs])
    print_loop(runs)
    if options.json:
        figures = {"machine": machine(), "clip": clip.name, "runs": runs}
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def print_loop(runs: Sequence[dict[str, Any]]) -> None:
    """Print the loop's figures of several runs."""

    def shown(name: str, digits: int = 1) -> str:
        return median_and_spread([run[name] for run in runs], digits)

    print(f"loop      {shown('loop_cpu_ms', 2)} CPU-ms a frame")
    print(f"ratio     {shown('ratio', 3)}  (loop over floor, CPU time a frame)")
    print(f"cores     {shown('cores_busy', 2)} busy")
    print(f"loop      {shown('loop_fps')} frames/s")
    beside = statistics.median(run["loop_fps"] / run["network_fps"] for run in runs)
    print(f"network   {shown('network_fps')} frames/s alone; the loop reaches {beside:.2f} of it")
    print(f"latency   {shown('latency_p50_ms')} ms end to end (p50; a file, so queues are full)")
    print(f"memory    {shown('memory_mib')} MiB at most")


if __name__ == "__main__":
    main()
