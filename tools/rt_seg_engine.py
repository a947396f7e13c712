"""The command ``rt-seg-engine``: build engine files, look into them, measure them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.parser import Parser, parse_command
from rtseg.tools.engine_build import add_build_parser, build
from rtseg.tools.engine_plan import show_plan

if TYPE_CHECKING:
    from rtseg.engines.adapt import AdaptedModel
    from rtseg.engines.engine import U8, Engine, Handle

PROGRAM = "rt-seg-engine"
FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``rt-seg-engine`` and return its exit code.

    Args:
        argv: what was typed after the command; None takes it from the process.

    Returns:
        0 done, 1 the engine failed, 2 wrong usage, 130 Ctrl-C.
    """
    options = parse_command(_parser, argv, PROGRAM)
    if isinstance(options, int):
        return options
    # Light: the room's data readers are loaded by "build" alone.
    from rtseg.calibration.errors import CalibrationError
    from rtseg.engines.errors import EngineError

    try:
        commands = {"build": build, "info": _info, "list": _list, "bench": _bench}
        commands[options.command](options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads us has enough, as in "info FILE | head"
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  or Python complains when it ends
        return 0
    except (EngineError, CalibrationError) as error:
        if options.debug:
            raise
        print(f"{PROGRAM}: error: {error.reason}: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM, description="Build engine files, look into them, measure the network alone."
    )
    shared = Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    shared.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add_build_parser(commands, shared)

    info = commands.add_parser("info", parents=[shared], help="what an engine file says of itself")
    info.add_argument(
        "file", type=Path, help="an .onnx file, an OpenVINO IR (.xml), or a GPU's .engine"
    )
    info.add_argument("--size", type=_size, metavar="WxH", help="for a network that takes any")

    commands.add_parser("list", parents=[shared], help="runtimes of this machine, shipped networks")

    bench = commands.add_parser("bench", parents=[shared], help="latency and throughput")
    bench.add_argument("file", nargs="?", help="an engine file, or any ONNX network")
    bench.add_argument("--model", default="espnet-lite", help="a shipped network (%(default)s)")
    bench.add_argument("--backend", default="auto", help="auto, openvino or onnxruntime")
    bench.add_argument("--device", default="cpu", help="cpu")
    bench.add_argument("--precision", choices=("fp32", "bf16", "fp16", "int8"))
    bench.add_argument("--mode", choices=("throughput", "latency"), default="throughput")
    bench.add_argument("--threads", type=_count(0), default=0, metavar="N", help="0: from cores")
    bench.add_argument("--requests", type=_count(0), default=0, metavar="N", help="0: chosen")
    bench.add_argument("--size", type=_size, metavar="WxH", help="for a network that takes any")
    bench.add_argument("--warmup", type=_count(0), default=10, metavar="N", help="(%(default)s)")
    bench.add_argument("-n", type=_count(1), default=100, metavar="N", help="frames (%(default)s)")
    return parser


def _count(least: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least}. Received: {text}"
            )
        return int(text)

    return parse


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected WxH, as in 512x512. Received: {text}")
    return int(width), int(height)


def _read(file: Path, size: tuple[int, int] | None) -> AdaptedModel:
    if file.suffix.lower() != ".xml":
        from rtseg.engines.adapt import adapt_onnx

        return adapt_onnx(file, size)
    from rtseg.engines.errors import EngineError
    from rtseg.engines.openvino_ir import adapt_ir

    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            "an OpenVINO IR needs OpenVINO: pip install openvino", reason="BACKEND_MISSING"
        ) from error
    return adapt_ir(openvino.Core(), file, size)


def _info(options: argparse.Namespace) -> None:
    from rtseg.engines.planfile import is_plan_file

    if is_plan_file(options.file):
        show_plan(options.file, as_json=options.json)
        return
    adapted = _read(options.file, options.size)
    spec = adapted.spec
    if options.json:
        record = json.loads(spec.to_json())
        record.update(file=str(options.file), assumed=list(adapted.assumed))
        print(json.dumps(record, indent=2))
        return
    rows = {
        "file": f"{options.file} ({options.file.stat().st_size / 1e6:.1f} MB)",
        "network": spec.network,
        "input": f"{spec.width}x{spec.height} (width x height), uint8 RGB frames",
        "output": "class ids, uint8, of the same size",
        "precision": spec.precision,
        "normalisation": f"(x / {spec.scale:g} - {_triple(spec.mean)}) / {_triple(spec.std)}, "
        + ("blue first" if spec.bgr else "red first"),
        "NaN check": "yes" if adapted.guarded else "no (the file ends in class ids)",
        "source sha256": spec.source_sha256,
        "calibration sha256": spec.calibration_sha256,
        "licence": spec.licence,
        **spec.extra,
        "assumed": "; ".join(adapted.assumed),
        "classes": str(len(spec.classes)),
    }
    for name, value in rows.items():
        if value:
            print(f"{name:<19}{value}")
    colours = zip(spec.classes.names, spec.classes.palette, strict=True)
    for index, (name, (red, green, blue)) in enumerate(colours):
        print(f"  {index:>3}  #{red:02x}{green:02x}{blue:02x}  {name}")


def _triple(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _list(options: argparse.Namespace) -> None:
    from rtseg.engines.registry import list_backends
    from rtseg.engines.shipped import shipped_models

    backends, models = list_backends(), shipped_models()
    if options.json:
        record = {
            "backends": [dataclasses.asdict(backend) for backend in backends],
            "models": [{**dataclasses.asdict(model), "path": str(model.path)} for model in models],
        }
        print(json.dumps(record, indent=2))
        return
    print("Runtimes")
    for backend in backends:
        state = f"{backend.version}, {', '.join(backend.devices)}" if backend.available else "no"
        if backend.builds:
            state = f"{backend.version}, build only"
        print(f"  {backend.name:<13}{state}{': ' + backend.reason if backend.reason else ''}")
    print("Shipped networks")
    for model in models:
        print(f"  {model.name:<13}{model.width}x{model.height}  {model.precision}")
    if not models:
        print("  none in this installation")


def _bench(options: argparse.Namespace) -> None:
    from rtseg.engines.registry import open_engine

    began = time.perf_counter()
    with open_engine(
        options.file,
        model=options.model,
        backend=options.backend,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        requests=options.requests,
        mode=options.mode,
        size=options.size,
    ) as engine:
        open_s = time.perf_counter() - began
        record = _measure(engine, options.warmup, options.n)
        profile, spec = engine.profile(), engine.spec
    record.update(
        network=spec.network,
        width=spec.width,
        height=spec.height,
        mode=options.mode,
        open_s=open_s,
        warmup=options.warmup,
        n=options.n,
        **dataclasses.asdict(profile),
    )
    print(json.dumps(record, indent=2) if options.json else _report(record))


def _measure(engine: Engine, warmup: int, count: int) -> dict[str, Any]:
    """Measure one frame at a time, then as many in flight as the engine takes."""
    import numpy as np

    spec = engine.spec
    random = np.random.default_rng(0)
    # Two frames in turn, so that nothing can be remembered from one to the next.
    frames = [
        random.integers(0, 256, (1, spec.height, spec.width, 3), dtype=np.uint8) for _ in range(2)
    ]
    for index in range(warmup):
        engine.infer(frames[index % 2])
    latency_ms, compute_ms = [], []
    for index in range(count):
        began = time.perf_counter()
        handle = engine.submit(frames[index % 2])
        engine.result(handle)
        latency_ms.append((time.perf_counter() - began) * 1e3)
        compute_ms.append(handle.timing.infer_ms if handle.timing else float("nan"))
    cpu_s = time.process_time()
    loaded_ms, elapsed_s = _flood(engine, frames, count)
    cpu_s = time.process_time() - cpu_s
    return {
        "latency_ms": _summary(latency_ms),
        "compute_ms": _summary(compute_ms),
        "compute_loaded_ms": _summary(loaded_ms),
        "throughput_fps": count / elapsed_s,
        "cpu_ms_a_frame": cpu_s * 1e3 / count,
    }


def _flood(engine: Engine, frames: list[U8], count: int) -> tuple[list[float], float]:
    """Return the compute times with all requests in flight, and the whole time in seconds."""
    waiting: deque[Handle] = deque()
    compute_ms = []
    began = time.perf_counter()
    for index in range(count + engine.requests):
        if index >= engine.requests and waiting:
            handle = waiting.popleft()
            engine.result(handle)
            compute_ms.append(handle.timing.infer_ms if handle.timing else float("nan"))
        if index < count:
            waiting.append(engine.submit(frames[index % 2]))
    return compute_ms, time.perf_counter() - began


def _summary(values_ms: list[float]) -> dict[str, float]:
    import numpy as np

    p50, p90, p95, p99 = (float(value) for value in np.percentile(values_ms, (50, 90, 95, 99)))
    mean, largest = float(np.mean(values_ms)), max(values_ms)
    return {"mean": mean, "p50": p50, "p90": p90, "p95": p95, "p99": p99, "max": largest}


def _report(record: dict[str, Any]) -> str:
    columns = ("mean", "p50", "p90", "p95", "p99", "max")
    lines = [
        f"{record['network']}, {record['width']}x{record['height']}, {record['precision']}, on "
        f"{record['backend']} {record['runtime_version']}, {record['device']}",
        f"{record['threads']} threads, mode {record['mode']}, {record['requests']} requests, "
        f"opened in {record['open_s']:.2f} s, n {record['n']} after {record['warmup']} warm-up",
        "",
        f"{'ms':<36}" + "".join(f"{column:>9}" for column in columns),
    ]
    for key, title in (
        ("latency_ms", "latency, one frame at a time"),
        ("compute_ms", "compute, one frame at a time"),
        ("compute_loaded_ms", f"compute, {record['requests']} in flight"),
    ):
        lines.append(f"{title:<36}" + "".join(f"{record[key][column]:9.2f}" for column in columns))
    lines += [
        "",
        f"throughput, {record['requests']} in flight: {record['throughput_fps']:.1f} frames/s, "
        f"{record['cpu_ms_a_frame']:.1f} CPU-ms a frame",
        "",
        "Inside the clocks: normalisation, network, upsampling, argmax, batch 1. Latency also has "
        "handing over and fetching. Outside: decode, resize, drawing, encode.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
