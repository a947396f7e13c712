"""Builds, checks and times everything on a machine with an NVIDIA GPU, and writes it down.

    python benchmarks/gpu.py [--clip FILE] [--backend tensorrt rtx] [--out gpu]

For each runtime that is there, in FP16 and INT8, with CUDA graphs and without: seconds to build
and to open, the share of pixels with the CPU engine's class, latency and throughput of the
network alone (interleaved rounds, real frames), then a frame's way to its picture with resizing
and colouring on the CPU and on the GPU, then the whole loop, video file to video file.
Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gpu_planes
import numpy as np
from common import clip_or_generated, machine, run_loop

from rtseg.engines.build import build_engine
from rtseg.engines.cuda import NoGpu, find_gpu
from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.engines.registry import open_engine
from rtseg.engines.shipped import choose_model, shipped_models
from rtseg.engines.tensorrt_open import gpu_status, open_tensorrt
from rtseg.tools.engine_measure import figures, frames_for, measure

PRECISIONS = ("fp16", "int8")


def check(engine: Engine, reference: Engine, clip: Path) -> float:
    """Return the share of the clip's pixels to which both give the same class."""
    shares = [
        float((engine.infer(frame) == reference.infer(frame)).mean())
        for frame in frames_for(engine, [clip])[:8]
    ]
    return float(np.mean(shares))


def network_alone(
    backend: Any, model: str, clip: Path, rounds: int, count: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Build, check and time one runtime in both precisions, with graphs and without.

    Returns:
        The network's rows, and those of a frame's two ways to its picture.
    """
    rows: list[dict[str, Any]] = []
    ways: list[dict[str, Any]] = []
    engines: list[Engine] = []
    with ExitStack() as opened:
        for precision in PRECISIONS:
            wanted = "int8" if precision == "int8" else "fp32"
            try:
                source = choose_model(shipped_models(), model, wanted).path
                built = build_engine(source, backend=backend, precision=precision)
            except EngineError as error:
                rows.append({"backend": backend, "precision": precision, "failed": str(error)})
                continue
            reference = open_engine(source, backend="openvino", precision=wanted)
            opened.enter_context(reference)
            for graph in (True, False):
                began = time.perf_counter()
                engine = open_tensorrt(built.path, backend, graph=graph)
                opened.enter_context(engine)
                engines.append(engine)
                rows.append(
                    {
                        "backend": backend,
                        "precision": precision,
                        "graph": graph,
                        "size": f"{engine.spec.width}x{engine.spec.height}",
                        "runtime": engine.profile().runtime_version,
                        "build_s": built.header.build_s,
                        "plan_mb": built.header.plan_bytes / 1e6,
                        "open_s": time.perf_counter() - began,
                        "agreement_with_cpu": check(engine, reference, clip),
                    }
                )
                if graph:
                    way = gpu_planes.two_ways(engine, clip, rounds)
                    ways.append({"backend": backend, "precision": precision, **way})
        frames = [frames_for(engine, [clip]) for engine in engines]
        found = measure(engines, frames, rounds=rounds, warmup=20, count=count)
    for row, seen in zip((row for row in rows if "failed" not in row), found, strict=True):
        row.update(figures(seen))
    return rows, ways


def whole_loop(backend: str, precision: str, clip: Path) -> dict[str, Any]:
    """Run ``rt-seg`` from file to nothing and from file to file; return frames/s."""
    typed = [str(clip), "--backend", backend, "--precision", precision, "--loop", "5"]
    fps = {}
    for name, out in (("to_null", ["--out", "null"]), ("to_h264", ["--out", "gpu-loop.mp4", "-y"])):
        profile = run_loop([*typed, *out])
        fps[name] = profile["throughput_fps"]
    Path("gpu-loop.mp4").unlink(missing_ok=True)
    return {"backend": backend, "precision": precision, **fps}


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = [
        "# Network and loop on a GPU",
        "",
        f"{record['gpu']}, compute capability {record['compute_capability']}; {record['machine']}; "
        f"{record['clip']}. `python benchmarks/gpu.py`",
        "",
        "| runtime | precision | graph | build s | open s | pixels as the CPU "
        "| latency p50 / p99 ms | network ms | copies ms | frames/s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["network"]:
        if "failed" in row:
            lines.append(f"| {row['backend']} | {row['precision']} | {row['failed']} |||||||")
            continue
        lines.append(
            f"| {row['backend']} {row['runtime']} | {row['precision']} | "
            f"{'yes' if row['graph'] else 'no'} | {row['build_s']:.1f} | {row['open_s']:.2f} | "
            f"{row['agreement_with_cpu']:.2%} | {row['latency_ms']['p50']:.2f} / "
            f"{row['latency_ms']['p99']:.2f} | {row['compute_ms']['p50']:.2f} | "
            f"{row['copies_ms']['p50']:.2f} | {row['throughput_fps']:.0f} |"
        )
    lines += gpu_planes.table(record["planes"])
    lines += [
        "",
        "| loop | precision | to nothing, frames/s | to H.264, frames/s |",
        "|---|---|---|---|",
    ]
    for row in record["loop"]:
        lines.append(
            f"| {row['backend']} | {row['precision']} | {row['to_null']:.0f} | "
            f"{row['to_h264']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip")
    parser.add_argument("--model", default="espnet-lite")
    parser.add_argument("--backend", nargs="*", choices=("tensorrt", "rtx"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-n", type=int, default=200, help="frames of a measurement")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="OUT.json and OUT.md")
    options = parser.parse_args()
    gpu = find_gpu()
    if isinstance(gpu, NoGpu):
        raise SystemExit(f"needs an NVIDIA GPU: {gpu.reason}")
    states = {name: gpu_status(name) for name in ("tensorrt", "rtx")}
    usable = [name for name in options.backend or states if states[name].runs]
    for name, state in states.items():
        if name not in usable:
            print(f"{name} is left out: {state.reason or 'not asked for'}")
    with clip_or_generated(options.clip) as clip:
        record: dict[str, Any] = {
            "gpu": gpu.name,
            "compute_capability": gpu.compute_capability,
            "machine": machine(),
            "clip": clip.name,
            "network": [],
            "planes": [],
            "loop": [],
        }
        for name in usable:
            rows, ways = network_alone(name, options.model, clip, options.rounds, options.n)
            record["network"] += rows
            record["planes"] += ways
            for precision in PRECISIONS:
                if not any("failed" in row and row["precision"] == precision for row in rows):
                    record["loop"].append(whole_loop(name, precision, clip))
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    options.out.with_suffix(".md").write_text(table(record), encoding="utf-8")
    print(table(record))


if __name__ == "__main__":
    main()
