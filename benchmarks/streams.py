"""Several streams through one engine: throughput, latency and memory, and what one more costs.

Generated pictures come in real time, each stream at the same rate; the newest frame wins. All
streams go to nothing, or to one picture (``--layout grid``).

    python benchmarks/streams.py [--streams 1,2,4,8] [--rate 30] [--seconds 20] [-- options]
"""

from __future__ import annotations

import argparse

from common import machine, run_loop


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", default="1,2,4,8", help="numbers, separated by commas")
    parser.add_argument("--rate", type=float, default=30.0, help="frames/s of each stream")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("rest", nargs="*", help="options passed on to rt-seg, after --")
    options = parser.parse_args()
    parts = f"size={options.size}:rate={options.rate:g}:duration={options.seconds:g}"
    graph = f"lavfi:testsrc2={parts},realtime"
    print(f"machine   {machine()}")
    print(
        f"sources   {options.size}, {options.rate:g} frames/s each, {options.seconds:g} s; "
        f"rt-seg {' '.join(options.rest)}"
    )
    print(
        f"{'streams':>7}{'out/s':>9}{'of each':>16}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8} ms"
        f"{'CPU-ms':>9}{'cores':>7}{'MiB':>7}  each one more"
    )
    before: tuple[int, float] | None = None
    for count in (int(number) for number in options.streams.split(",")):
        report = run_loop(
            [
                *(word for _ in range(count) for word in ("--source", graph)),
                *("--out", "null", "-y", *options.rest),
            ]
        )
        latency, memory = report["latency"], report["peak_memory_mib"]
        rates = [stream["throughput_fps"] for stream in report["streams"]]
        rates = rates or [report["throughput_fps"]]
        more = ""
        if before is not None and count > before[0]:
            more = f"{(memory - before[1]) / (count - before[0]):+.1f} MiB"
        before = count, memory
        print(
            f"{count:>7}{report['throughput_fps']:>9.1f}"
            f"{f'{min(rates):.1f} – {max(rates):.1f}':>16}"
            f"{latency['p50_ms']:>8.1f}{latency['p95_ms']:>8.1f}{latency['p99_ms']:>8.1f}"
            f"{latency['max_ms']:>8.1f}   {report['cpu_ms_per_frame']:>9.1f}"
            f"{report['cores_busy']:>7.2f}{memory:>7.0f}  {more}",
            flush=True,
        )


if __name__ == "__main__":
    main()
