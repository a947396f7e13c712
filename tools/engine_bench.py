"""``rt-seg-engine bench``: engines side by side, the network alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.parser import Parser
from rtseg.tools.argument_types import count, count_from_zero, in_flight, size, wide_first

if TYPE_CHECKING:
    from rtseg.engines.engine import Engine
    from rtseg.tools.engine_measure import Candidate

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_ONE, _SEVERAL = (100, 1), (30, 5)
"""Frames and rounds for one engine, and for each of several."""


def add_bench_parser(commands: Any, shared: Parser) -> None:
    """Add the subcommand ``bench`` to those of ``rt-seg-engine``."""
    parser: Parser = commands.add_parser(
        "bench",
        parents=[shared],
        help="latency and throughput, engines side by side",
        description="Measure networks alone: no decoding, drawing or encoding. Several engines "
        "are measured in turn, round by round, and set against a baseline: rt-seg-engine bench "
        "--run onnxruntime:fp32 --run openvino:int8 --data drive.mp4",
    )
    add = parser.add_argument
    add("file", nargs="*", help="engine files, or any ONNX networks (default: --model)")
    add("--model", default="espnet-lite", help="a shipped network (%(default)s)")
    add(
        "--run",
        action="append",
        default=[],
        metavar="BACKEND[:PRECISION][=FILE]",
        help="one of several to be compared; repeatable",
    )
    add("--baseline", metavar="NAME", help="what the others are compared with (the first)")
    add(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER|VIDEO",
        help="frames to run on; repeatable (default: noise, which is not what a camera sees)",
    )
    add("--backend", default="auto", help="auto, openvino, onnxruntime, tensorrt or rtx")
    add("--device", default="auto", help="cpu, or cuda:0 (default: the backend's)")
    add("--precision", choices=PRECISIONS)
    add("--mode", choices=("throughput", "latency"), default="throughput")
    add("--threads", type=count_from_zero, default=0, metavar="N", help="0: from the cores")
    add("--requests", type=in_flight, default=0, metavar="N", help="0: chosen")
    add(
        "--size",
        type=size,
        metavar="WxH",
        help="for a network that takes any, as those that ship do",
    )
    add("--warmup", type=count_from_zero, default=10, metavar="N", help="frames (%(default)s)")
    add(
        "-n",
        type=count,
        metavar="N",
        help=f"frames of a measurement ({_ONE[0]}; with several engines {_SEVERAL[0]})",
    )
    add(
        "--rounds",
        type=count,
        metavar="N",
        help=f"measurements of each engine ({_ONE[1]}; with several engines {_SEVERAL[1]})",
    )


def bench(options: argparse.Namespace) -> None:
    """Run ``rt-seg-engine bench``.

    Raises:
        EngineError: an engine cannot be opened, or failed.
        CalibrationError: the frames cannot be read.
    """
    from rtseg.engines.registry import open_engine
    from rtseg.tools.engine_measure import against, figures, frames_for, measure
    from rtseg.tools.step_progress import Progress

    candidates = _candidates(options)
    baseline = _baseline(options.baseline, candidates)
    many = len(candidates) > 1
    frames_each = options.n or (_SEVERAL if many else _ONE)[0]
    rounds = options.rounds or (_SEVERAL if many else _ONE)[1]
    show = Progress(quiet=options.json or not many)
    with ExitStack() as open_ones:
        engines: list[Engine] = []
        open_s = []
        for candidate in candidates:
            began = time.perf_counter()
            engine = open_engine(
                candidate.file,
                model=options.model,
                backend=candidate.backend,
                device=options.device,
                precision=candidate.precision,
                threads=options.threads,
                requests=options.requests,
                mode=options.mode,
                size=wide_first(options.size),
            )
            engines.append(open_ones.enter_context(engine))
            open_s.append(time.perf_counter() - began)
        frames = [frames_for(engine, options.data) for engine in engines]
        found = measure(
            engines,
            frames,
            rounds=rounds,
            warmup=options.warmup,
            count=frames_each,
            progress=show,
        )
        show.done()
        records = [
            {
                "name": candidate.name,
                "network": engine.spec.network,
                "width": engine.spec.width,
                "height": engine.spec.height,
                "mode": options.mode,
                "open_s": seconds,
                "warmup": options.warmup,
                "n": frames_each,
                "frames": _frames(options.data, len(shown)),
                **dataclasses.asdict(engine.profile()),
                **figures(seen),
            }
            for candidate, engine, seconds, shown, seen in zip(
                candidates, engines, open_s, frames, found, strict=True
            )
        ]
    if not many:
        print(json.dumps(records[0], indent=2) if options.json else _report(records[0]))
        return
    for record, seen in zip(records, found, strict=True):
        record["against_baseline"] = against(seen, found[baseline])
    record = {
        "baseline": candidates[baseline].name,
        "measurements": rounds,
        "n": frames_each,
        "engines": records,
    }
    print(json.dumps(record, indent=2) if options.json else _comparison(record))


def _candidates(options: argparse.Namespace) -> list[Candidate]:
    """Return what was asked for: each ``--run``, over each file that was named."""
    from rtseg.engines.errors import EngineError
    from rtseg.tools.engine_measure import Candidate

    files: list[str | None] = list(options.file) or [None]
    runs = options.run or [
        f"{options.backend}:{options.precision}" if options.precision else options.backend
    ]
    found = []
    for file in files:
        for run in runs:
            how, _, own_file = run.partition("=")
            backend, _, precision = how.partition(":")
            if not backend or (precision and precision not in PRECISIONS):
                raise EngineError(
                    f"--run takes BACKEND[:PRECISION][=FILE] with a precision of "
                    f"{', '.join(PRECISIONS)}. Received: {run}",
                    reason="BAD_OPTION",
                )
            chosen = own_file or file
            name = how if len(files) == 1 and not own_file else f"{how}={Path(chosen or '').name}"
            found.append(Candidate(name, chosen, backend, precision or None))
    names = [candidate.name for candidate in found]
    for name in names:
        if names.count(name) > 1 and len(names) > 1:
            raise EngineError(f"{name} is named twice: nothing to compare", reason="BAD_OPTION")
    return found


def _baseline(name: str | None, candidates: list[Candidate]) -> int:
    from rtseg.engines.errors import EngineError

    names = [candidate.name for candidate in candidates]
    if name is None:
        return 0
    if name not in names:
        raise EngineError(
            f"no engine is called {name!r}. Allowed: {', '.join(names)}", reason="BAD_OPTION"
        )
    return names.index(name)


def _frames(data: list[Path], shown: int) -> str:
    if not data:
        return "noise"
    return f"{shown} of {', '.join(path.name for path in data)}"


def _of(record: dict[str, Any]) -> str:
    return (
        f"{record['network']}, {record['width']}x{record['height']}, {record['precision']}, on "
        f"{record['backend']} {record['runtime_version']}, {record['device']}"
    )


def _threads(record: dict[str, Any]) -> str:
    """Return the threads of an engine on a CPU; a GPU has none to name."""
    return f"{record['threads']} threads, " if record["threads"] else ""


def _setting(record: dict[str, Any]) -> str:
    if record["frames"] == "noise":
        return (
            "frames: noise. Times of some engines depend on the picture: name real ones with --data"
        )
    return f"frames: {record['frames']}"


_CLOCKS = (
    "Inside the clocks: normalisation, network, upsampling, argmax, batch 1. Latency also has "
    "handing over and fetching. Outside: decode, resize, drawing, encode."
)


def _report(record: dict[str, Any]) -> str:
    columns = ("mean", "p50", "p90", "p95", "p99", "max")
    lines = [
        _of(record),
        f"{_threads(record)}mode {record['mode']}, {record['requests']} requests, "
        f"opened in {record['open_s']:.2f} s, n {record['n']} after {record['warmup']} warm-up",
        _setting(record),
        "",
        f"{'ms':<36}" + "".join(f"{column:>9}" for column in columns),
    ]
    for key, title in (
        ("latency_ms", "latency, one frame at a time"),
        ("compute_ms", "compute, one frame at a time"),
        ("copies_ms", "copies to and from the device"),
        ("compute_loaded_ms", f"compute, {record['requests']} in flight"),
    ):
        if row := record.get(key):
            lines.append(f"{title:<36}" + "".join(f"{row[column]:9.2f}" for column in columns))
    lines += [
        "",
        f"throughput, {record['requests']} in flight: {record['throughput_fps']:.1f} frames/s, "
        f"{record['cpu_ms_a_frame']:.1f} CPU-ms a frame",
        "",
        _CLOCKS,
    ]
    return "\n".join(lines)


def _comparison(record: dict[str, Any]) -> str:
    engines = record["engines"]
    lines = [f"{each['name']}: {_threads(each)}{_of(each)}" for each in engines]
    wide = max(len(each["name"]) for each in engines) + 2
    lines += [
        "",
        f"{record['measurements']} rounds in turn, n {record['n']} after "
        f"{engines[0]['warmup']} warm-up, mode {engines[0]['mode']}; medians of the rounds "
        "(least – most)",
        _setting(engines[0]),
        "",
        f"{'':<{wide}}{'latency ms':>24}{'frames/s':>24}{'CPU-ms a frame':>24}",
    ]
    for each in engines:
        cells = (each["rounds"][key] for key in ("latency_ms", "throughput_fps", "cpu_ms_a_frame"))
        lines.append(f"{each['name']:<{wide}}" + "".join(f"{_cell(c):>24}" for c in cells))
    lines += ["", f"{'times as fast as ' + record['baseline']:<{wide}}"]
    lines.append(f"{'':<{wide}}{'by latency':>24}{'by frames/s':>24}")
    for each in engines:
        cells = (each["against_baseline"][key] for key in ("latency_speedup", "throughput_speedup"))
        lines.append(f"{each['name']:<{wide}}" + "".join(f"{_cell(c, 2):>24}" for c in cells))
    return "\n".join([*lines, "", _CLOCKS])


def _cell(row: dict[str, float], digits: int = 1) -> str:
    return f"{row['median']:.{digits}f} ({row['least']:.{digits}f} – {row['most']:.{digits}f})"
