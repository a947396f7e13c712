"""The command ``rt-seg-engine``: build engine files, look into them, measure them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.realtime.ending import give_up_output, open_closed_streams
from rtseg.realtime.log import set_up_logging
from rtseg.realtime.parser import Parser, ShowVersions
from rtseg.tools.argument_types import size, wide_first
from rtseg.tools.ending import parse_command, say_failure, tidy_when_terminated
from rtseg.tools.engine_bench import add_bench_parser, bench
from rtseg.tools.engine_build import add_build_parser, build
from rtseg.tools.engine_cache import add_cache_parser, cache
from rtseg.tools.engine_plan import show_plan

if TYPE_CHECKING:
    from rtseg.engines.adapt import AdaptedModel
    from rtseg.engines.spec import EngineSpec

PROGRAM = "rt-seg-engine"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``rt-seg-engine`` and return its exit code.

    Args:
        argv: what was typed after the command; None takes it from the process.

    Returns:
        0 done, 1 the engine failed, 2 wrong usage, 130 Ctrl-C (SIGTERM ends with 143).
    """
    open_closed_streams()
    options = parse_command(_parser, argv, PROGRAM)
    if isinstance(options, int):
        return options
    set_up_logging("text", quiet=False, verbose=0, program=PROGRAM)
    commands = {"build": build, "info": _info, "list": _list, "bench": bench, "cache": cache}
    try:
        with tidy_when_terminated():
            commands[options.command](options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads us has enough, as in "info FILE | head"
        give_up_output()
        return 0
    except Exception as error:
        if options.debug:
            raise
        return say_failure(PROGRAM, error, argv)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM, description="Build engine files, look into them, measure the network alone."
    )
    parser.add_argument("--version", action=ShowVersions)
    shared = Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    shared.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add_build_parser(commands, shared)

    info = commands.add_parser("info", parents=[shared], help="what an engine file says of itself")
    info.add_argument(
        "file", type=Path, help="an .onnx file, an OpenVINO IR (.xml), or a GPU's .engine"
    )
    info.add_argument("--size", type=size, metavar="WxH", help="for a network that takes any")

    commands.add_parser("list", parents=[shared], help="runtimes of this machine, shipped networks")

    add_bench_parser(commands, shared)
    add_cache_parser(commands, shared)
    return parser


def _read(file: Path, size: tuple[int, int] | None) -> AdaptedModel:
    if file.suffix.lower() != ".xml":
        from rtseg.engines.adapt import adapt_onnx

        return adapt_onnx(file, size)
    from rtseg.engines.errors import EngineError
    from rtseg.engines.openvino_ir import adapt_ir
    from rtseg.engines.openvino_runtime import load_openvino

    try:
        openvino = load_openvino()
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
    adapted = _read(options.file, wide_first(options.size))
    spec = adapted.spec
    if options.json:
        record = json.loads(spec.to_json())
        record.update(file=str(options.file), assumed=list(adapted.assumed))
        print(json.dumps(record, indent=2))
        return
    rows = {
        "file": f"{options.file} ({options.file.stat().st_size / 1e6:.1f} MB)",
        "network": spec.network,
        "input": f"{spec.width}x{spec.height} (width x height), uint8 RGB frames, {_fit(spec)}",
        "output": "class ids, uint8, of the same size",
        "precision": spec.precision,
        "normalisation": f"{_normalisation(spec)}, {'blue' if spec.bgr else 'red'} first",
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


def _fit(spec: EngineSpec) -> str:
    if spec.pad is None:
        return "scaled to fill it"
    least, most = spec.stretch
    if (least, most) == (1, 1):
        return f"in their shape, gray ({spec.pad}) around them"
    return f"scaled to fill it, but {least:g} to {most:g} times as wide, gray ({spec.pad}) around"


def _normalisation(spec: EngineSpec) -> str:
    if (spec.mean, spec.std, spec.scale) == ((0, 0, 0), (1, 1, 1), 1):
        return "none"
    return f"(x / {spec.scale:g} - {_triple(spec.mean)}) / {_triple(spec.std)}"


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
        if backend.builds and not backend.available:
            state = f"{backend.version}, build only"
        print(f"  {backend.name:<13}{state}{': ' + backend.reason if backend.reason else ''}")
    print("Shipped networks")
    for model in models:
        print(f"  {model.name:<13}{model.width}x{model.height}  {model.precision}")
    if not models:
        print("  none in this installation")


if __name__ == "__main__":
    sys.exit(main())
