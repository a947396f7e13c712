"""End-to-end latency on live sources slower and faster than the engine, and its bound.

A generated picture comes in real time at each rate; the newest frame wins (``latest``). The
bound is what the design promises: one frame interval, one inference with its preprocessing,
and rendering and output twice (they may be busy with the picture before), each at its 99th
percentile.

    python benchmarks/latency.py [--rates 10,30,60,120] [--seconds 20] [-- options of rt-seg]
"""

from __future__ import annotations

import argparse
from typing import Any

from common import machine, run_loop

ONCE = ("preprocess", "upload", "infer", "download", "postprocess")
TWICE = ("render", "encode")


def bound_ms(report: dict[str, Any], rate: float) -> float:
    """Return the bound: a frame interval and 99th percentiles of the stages."""
    stages = report["stages"]
    return 1e3 / rate + sum(stages[name]["p99_ms"] for name in (*ONCE, *TWICE, *TWICE))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="10,30,60,120", help="frames/s, separated by commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--out", default="null", help="as rt-seg's")
    parser.add_argument("rest", nargs="*", help="options passed on to rt-seg, after --")
    options = parser.parse_args()
    rates = [float(rate) for rate in options.rates.split(",")]
    print(f"machine   {machine()}")
    head = "".join(f"{name:>9}" for name in ("p50", "p95", "p99", "max", "bound", "p99/bound"))
    print(f"{'source/s':>9}{'in':>8}{'out':>8}{'out/s':>8}{head}  ms; dropped")
    for rate in rates:
        parts = f"size={options.size}:rate={rate:g}:duration={options.seconds:g}"
        graph = f"lavfi:testsrc2={parts},realtime"
        report = run_loop(
            [
                *("--source", graph, "--out", options.out, "-y"),
                *("--drop-policy", "latest", *options.rest),
            ]
        )
        latency, limit_ms = report["latency"], bound_ms(report, rate)
        values = [latency[f"{name}_ms"] for name in ("p50", "p95", "p99", "max")]
        figures = "".join(f"{value:>9.1f}" for value in (*values, limit_ms))
        drops = ", ".join(f"{count} {why}" for why, count in sorted(report["dropped"].items()))
        print(
            f"{rate:>9g}{report['frames_in']:>8}{report['frames_out']:>8}"
            f"{report['throughput_fps']:>8.1f}{figures}{latency['p99_ms'] / limit_ms:>9.2f}"
            f"  {drops or 'none'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
