"""The command ``rt-seg-model``: train, judge, export and count the networks."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rtseg.realtime.ending import give_up_output, open_closed_streams
from rtseg.realtime.errors import UsageError
from rtseg.realtime.log import set_up_logging
from rtseg.realtime.parser import Parser, ShowVersions
from rtseg.tools.argument_types import share, size
from rtseg.tools.ending import parse_command, say_failure
from rtseg.tools.model_judge import add_commands, consistency, evaluate
from rtseg.tools.model_train import add_train_commands, find_rate, take_back_weights, train

PROGRAM = "rt-seg-model"
INTERRUPTED = 130
_LONG = ("train", "lr-find", "pseudo-label")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``rt-seg-model`` and return its exit code.

    Args:
        argv: what was typed after the command; None takes it from the process.

    Returns:
        0 done, 1 failed, 2 wrong usage, 130 Ctrl-C.
    """
    open_closed_streams()
    options = parse_command(_parser, argv, PROGRAM)
    if isinstance(options, int):
        return options
    set_up_logging("text", quiet=False, verbose=0, program=PROGRAM)
    commands = {
        "train": train,
        "lr-find": find_rate,
        "evaluate": evaluate,
        "consistency": consistency,
        "average": _average,
        "unweight": take_back_weights,
        "export": _export,
        "summary": _summary,
        "pseudo-label": _pseudo_label,
    }
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # a damaged picture is said in one line
    _choose_backend()
    try:
        commands[options.command](options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads us has enough, as in "summary | head"
        give_up_output()
        if options.command not in _LONG:
            return 0
        text = f"standard output was closed, and {options.command} ended before it was done"
        return say_failure(PROGRAM, BrokenPipeError(errno.EPIPE, text), argv)
    except Exception as error:
        if options.debug:
            raise
        return say_failure(PROGRAM, error, argv)
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
    parser.add_argument("--version", action=ShowVersions)
    shared = Parser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add_train_commands(commands, shared)
    add_commands(commands, shared)

    average = commands.add_parser(
        "average", parents=[shared], help="average the weights of several runs"
    )
    average.add_argument("weights", nargs="+", type=Path, help=".weights.h5 files of one network")
    average.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .weights.h5")
    average.add_argument(
        "--shares", type=_shares, metavar="A:B:…", help="weight of each file, as 3:7 (all the same)"
    )
    average.add_argument("--network", default="espnet-lite", help="(%(default)s)")
    average.add_argument("-y", "--overwrite", action="store_true", help="replace an existing file")

    export = commands.add_parser("export", parents=[shared], help="weights to one ONNX file")
    export.add_argument("weights", type=Path, help="a .weights.h5 file")
    export.add_argument("out", type=Path, help="the .onnx file to write")
    export.add_argument("--network", default="espnet-lite", help="(%(default)s)")
    export.add_argument(
        "--size", type=size, metavar="WxH", help="(640x480 for espnet-lite, 512x512 for others)"
    )
    export.add_argument(
        "--frames",
        type=size,
        metavar="WxH",
        help="what the file takes, where it is not --size: it brings them to that itself",
    )
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
    pseudo.add_argument(
        "--threshold",
        type=share,
        default=0.6,
        metavar="P",
        help="least probability of a pixel that is labelled, 0 to 1 (%(default)s)",
    )
    return parser


def _shares(text: str) -> list[float]:
    """Parse numbers with colons between them."""
    try:
        return [float(part) for part in text.split(":")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with colons between them, as 3:7. Received: {text}"
        ) from None


def _average(options: argparse.Namespace) -> None:
    from rtseg.models.average import average_weights
    from rtseg.models.files import check_free, check_weights_name, save_weights

    check_free(options.out, overwrite=options.overwrite)
    check_weights_name(options.out)
    save_weights(average_weights(options.network, options.weights, options.shares), options.out)
    print(f"{options.out}: the mean of {len(options.weights)} files")


def _export(options: argparse.Namespace) -> None:
    from rtseg.models.files import check_free

    if options.out.suffix.lower() != ".onnx":
        raise UsageError(f"an exported network is an .onnx file. Received: {options.out}")
    check_free(options.out, overwrite=options.overwrite)
    from rtseg.models.export import export_onnx
    from rtseg.models.registry import build, load_weights, own_size

    model = build(options.network, *(options.size or own_size(options.network)))
    load_weights(model, str(options.weights))
    path = export_onnx(model, options.out, frames=options.frames)
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


def _images_in(folder: Path) -> Iterator[Path]:
    from rtseg.calibration.calibration_set import IMAGE_SUFFIXES

    return (p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES)


def _pseudo_label(options: argparse.Namespace) -> None:
    from rtseg.models.teacher import Teacher, write_pseudo_labels

    images: list[Path] = []
    for path in options.images:
        images += sorted(_images_in(path)) if path.is_dir() else [path]
    count = write_pseudo_labels(
        images, Teacher(options.teacher), options.out, threshold=options.threshold
    )
    print(f"{options.out}: {count} images")


if __name__ == "__main__":
    raise SystemExit(main())
