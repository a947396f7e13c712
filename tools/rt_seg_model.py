"""The command ``rt-seg-model``: train, judge, export and count the networks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.parser import Parser, parse_command
from rtseg.tools.argument_types import count, size
from rtseg.tools.model_judge import add_commands, consistency, evaluate

if TYPE_CHECKING:
    import keras

    from rtseg.models.config import TrainConfig
    from rtseg.models.train import Trainer

PROGRAM = "rt-seg-model"
FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``rt-seg-model`` and return its exit code.

    Args:
        argv: what was typed after the command; None takes it from the process.

    Returns:
        0 done, 1 failed, 2 wrong usage, 130 Ctrl-C.
    """
    options = parse_command(_parser, argv, PROGRAM)
    if isinstance(options, int):
        return options
    from rtseg.calibration.errors import CalibrationError
    from rtseg.engines.errors import EngineError
    from rtseg.models.errors import ModelError
    from rtseg.realtime.errors import RealtimeError

    commands = {
        "train": _train,
        "evaluate": evaluate,
        "consistency": consistency,
        "export": _export,
        "summary": _summary,
        "pseudo-label": _pseudo_label,
    }
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _choose_backend()
    try:
        commands[options.command](options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ModelError, CalibrationError, EngineError, RealtimeError) as error:
        if options.debug:
            raise
        print(f"{PROGRAM}: error: {error.reason}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code if isinstance(error, RealtimeError) else FAILED
    return 0


def _choose_backend() -> None:
    """Where TensorFlow is missing and nothing was chosen, let Keras run on what there is."""
    from importlib.util import find_spec

    if "KERAS_BACKEND" in os.environ or find_spec("tensorflow"):
        return
    for backend in ("torch", "jax"):
        if find_spec(backend):
            os.environ["KERAS_BACKEND"] = backend
            return


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Train, judge, export and count the networks.")
    shared = Parser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", parents=[shared], help="train a network")
    train.add_argument("config", help="a JSON file, or the name of one that ships: espnet-lite")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    train.add_argument("--data", type=Path, default=Path("data"), metavar="ROOT", help="data root")
    train.add_argument(
        "--root", action="append", default=[], metavar="NAME=DIR", help="where one data set lies"
    )
    train.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    train.add_argument(
        "--start", type=Path, metavar="FILE", help="a new run from these .weights.h5"
    )
    train.add_argument(
        "--teacher", type=Path, metavar="FILE", help="an ONNX network that the run learns from"
    )
    train.add_argument("--minutes", type=float, help="length of the run, by the clock")
    train.add_argument("--steps", type=count, help="length of the run, in steps")
    train.add_argument("--limit", type=count, metavar="N", help="N images a data set (a probe)")
    train.add_argument(
        "--trainer",
        choices=("auto", "torch", "keras"),
        default="auto",
        help="torch: fused operations and BF16 on CPUs; keras: plain Keras on its own backend; "
        "auto: torch where it is installed",
    )

    add_commands(commands, shared)

    export = commands.add_parser("export", parents=[shared], help="weights to one ONNX file")
    export.add_argument("weights", type=Path, help="a .weights.h5 file")
    export.add_argument("out", type=Path, help="the .onnx file to write")
    export.add_argument("--network", default="espnet-lite", help="(%(default)s)")
    export.add_argument("--size", type=size, default=(512, 512), metavar="WxH")
    export.add_argument("-y", "--overwrite", action="store_true", help="replace an existing file")

    summary = commands.add_parser("summary", parents=[shared], help="parameters and MACs")
    summary.add_argument("networks", nargs="*", help="names; all where none is given")
    summary.add_argument("--size", type=size, default=(512, 512), metavar="WxH")
    summary.add_argument("--json", action="store_true", help="print one JSON list")

    pseudo = commands.add_parser(
        "pseudo-label", parents=[shared], help="label frames with a teacher, as a data set"
    )
    pseudo.add_argument("images", nargs="+", type=Path, help="images, or folders of them")
    pseudo.add_argument("--teacher", type=Path, required=True, help="an ONNX network")
    pseudo.add_argument("--out", type=Path, required=True, metavar="DIR")
    pseudo.add_argument("--threshold", type=float, default=0.6, help="(%(default)s)")
    return parser


def _train(options: argparse.Namespace) -> None:
    import dataclasses

    from rtseg.models.config import read_config
    from rtseg.models.errors import ModelError
    from rtseg.models.teacher import Teacher
    from rtseg.models.train import Run, check_folder

    config = read_config(options.config)
    roots = {}
    for entry in options.root:
        name, sign, place = entry.partition("=")
        if not sign or name not in {source.root for source in config.sources}:
            known = ", ".join(source.root for source in config.sources)
            raise ModelError(
                f"--root {entry}: expected NAME=DIR with NAME one of {known}", reason="BAD_CONFIG"
            )
        roots[name] = str(Path(place).resolve())
    changes: dict[str, Any] = {
        "sources": tuple(
            dataclasses.replace(source, root=roots.get(source.root, source.root))
            for source in config.sources
        )
    }
    if options.steps is not None:
        changes |= {"steps": options.steps, "minutes": None}
    if options.minutes is not None:
        changes["minutes"] = options.minutes
    config = dataclasses.replace(config, **changes)
    check_folder(options.out, resume=options.resume)
    run = Run(
        config,
        options.out,
        options.data,
        lambda weights: _make_trainer(options.trainer, config, weights, options.start),
        say=lambda line: print(line, flush=True),
        limit=options.limit,
        teacher=Teacher(options.teacher).open() if options.teacher and config.distill else None,
    )
    if options.resume:
        run.resume()
    run.train()


def _make_trainer(kind: str, config: TrainConfig, weights: Any, first: Path | None) -> Trainer:
    from importlib.util import find_spec

    from rtseg.models.registry import KERAS_TRAINED, LITE0_NETWORKS, builder, load_weights

    if kind == "auto":
        fits = config.network not in KERAS_TRAINED
        kind = "torch" if fits and find_spec("torch") else "keras"
    if kind == "torch":
        if not find_spec("torch"):
            from rtseg.models.errors import missing_package

            raise missing_package("torch", "--trainer torch")
        # The accelerated step takes its graph from Keras; one framework is enough.
        os.environ.setdefault("KERAS_BACKEND", "torch")
    from rtseg.models.convert_lite0 import load_imagenet

    def prepare(model: keras.Model) -> None:
        if first is not None:
            load_weights(model, str(first))
        elif config.imagenet and config.network in LITE0_NETWORKS:
            load_imagenet(model)

    if kind == "torch":
        from rtseg.models.torch_trainer import TorchTrainer

        return TorchTrainer(builder(config.network), config, weights, prepare)
    from rtseg.models.keras_trainer import KerasTrainer

    return KerasTrainer(builder(config.network), config, weights, prepare)


def _export(options: argparse.Namespace) -> None:
    from rtseg.models.errors import ModelError

    if options.out.exists() and not options.overwrite:
        raise ModelError(f"{options.out} exists; -y replaces it", reason="BAD_CONFIG")
    from rtseg.models.export import export_onnx
    from rtseg.models.registry import build, load_weights

    model = build(options.network, *options.size)
    load_weights(model, str(options.weights))
    path = export_onnx(model, options.out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _summary(options: argparse.Namespace) -> None:
    from rtseg.models.registry import NETWORKS, build
    from rtseg.models.summary import measure

    sizes = [measure(build(name, *options.size)) for name in options.networks or NETWORKS]
    if options.json:
        print(json.dumps([vars(size) for size in sizes]))
        return
    height, width = options.size
    print(f"{'network':<16} {'parameters':>12} {'GMAC':>7}   at {width}x{height}")
    for found in sizes:
        print(f"{found.name:<16} {found.parameters:>12,} {found.macs / 1e9:>7.2f}")


def _pseudo_label(options: argparse.Namespace) -> None:
    from rtseg.models.teacher import Teacher, write_pseudo_labels

    images: list[Path] = []
    for path in options.images:
        images += sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    count = write_pseudo_labels(
        images, Teacher(options.teacher), options.out, threshold=options.threshold
    )
    print(f"{options.out}: {count} images")


if __name__ == "__main__":
    raise SystemExit(main())
