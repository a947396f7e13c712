"""The loop's throughput beside the network's alone, on one clip, in one run.

Inside the loop's figure: decode, resize, network, colouring, H.264 encode, writing the file;
from the first frame decoded to the last one written, start-up left out. Inside the
network's: the clip's first frames, resized and in memory already, to class ids at the input's
size.

    python benchmarks/loop.py [--clip FILE] [--runs 5] [--laps 5] [-- options of rt-seg]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import av
from common import clip_or_generated, machine, median_and_spread, run_loop

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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", help="a video (default: the 720p clip of the test data)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--laps", type=int, default=5, help="how often the clip is played a run")
    parser.add_argument("--precision", help="as rt-seg's")
    parser.add_argument("rest", nargs="*", help="options passed on to rt-seg, after --")
    options = parser.parse_args()
    loop_fps, alone_fps, cpu_ms, cores, latency, memory = [], [], [], [], [], []
    about = ""
    extra = ["--precision", options.precision] if options.precision else []
    with (
        clip_or_generated(options.clip) as clip,
        tempfile.TemporaryDirectory() as folder,
    ):
        output = Path(folder) / "seg.mp4"
        for _ in range(options.runs):
            alone, about = network_alone(clip, 5.0, options.precision)
            alone_fps.append(alone)
            report = run_loop(
                [
                    *("--source", str(clip), "--out", str(output), "-y"),
                    *("--loop", str(options.laps), *extra, *options.rest),
                ]
            )
            loop_fps.append(report["throughput_fps"])
            cpu_ms.append(report["cpu_ms_per_frame"])
            cores.append(report["cores_busy"])
            latency.append(report["latency"]["p50_ms"])
            memory.append(report["peak_memory_mib"])
        print(f"machine   {machine()}")
        print(
            f"clip      {clip.name}: {report['environment']['source_size']}, "
            f"{report['frames_out']} frames; {options.runs} runs, median (least – most)"
        )
        print(f"engine    {about}")
    print(f"loop      {median_and_spread(loop_fps)} frames/s")
    print(f"network   {median_and_spread(alone_fps)} frames/s alone")
    ratio = statistics.median(a / b for a, b in zip(loop_fps, alone_fps, strict=True))
    print(f"ratio     {ratio:.2f}  (loop over network alone, median of the pairs)")
    print(f"CPU       {median_and_spread(cpu_ms)} ms a frame, {median_and_spread(cores)} cores")
    print(f"latency   {median_and_spread(latency)} ms end to end (p50; a file, so queues are full)")
    print(f"memory    {median_and_spread(memory)} MiB at most")


if __name__ == "__main__":
    main()
