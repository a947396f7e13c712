"""``rt-seg-model train``, ``lr-find`` and ``unweight``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.engines.lookup import is_file
from rtseg.tools.argument_types import count, share

if TYPE_CHECKING:
    import keras

    from rtseg.models.config import TrainConfig
    from rtseg.models.train import Run, Trainer


def add_train_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add ``train``, ``lr-find`` and ``unweight`` to the commands of ``rt-seg-model``."""
    taught = argparse.ArgumentParser(add_help=False)
    taught.add_argument(
        "config", help="a JSON file, or the name of one that ships, such as espnet-lite"
    )
    taught.add_argument("--data", type=Path, default=Path("data"), metavar="ROOT", help="data root")
    taught.add_argument(
        "--root", action="append", default=[], metavar="NAME=DIR", help="where one data set lies"
    )
    taught.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="leave a data set out"
    )
    taught.add_argument("--network", help="another network than the configuration's")
    taught.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=JSON",
        dest="changes",
        help="another value of an option of the configuration: --set seed=3 "
        """--set 'loss={"dice": 0.5}'""",
    )
    taught.add_argument("--limit", type=count, metavar="N", help="N images a data set (a probe)")

    run = argparse.ArgumentParser(add_help=False, parents=[taught])
    run.add_argument("--start", type=Path, metavar="FILE", help="begin with these .weights.h5")
    run.add_argument(
        "--teacher", type=Path, metavar="FILE", help="an ONNX network that the run learns from"
    )
    run.add_argument(
        "--trainer",
        choices=("auto", "torch", "keras"),
        default="auto",
        help="torch: fused operations and BF16 on CPUs; keras: plain Keras on its own backend; "
        "auto: torch where it is installed",
    )
    run.add_argument(
        "--devices",
        type=lambda text: text if text == "all" else count(text),
        metavar="N|all",
        help="spread batches over devices (Keras on jax)",
    )
    run.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="threads that draw views (half the cores); the run is the same for any number",
    )

    train = commands.add_parser("train", parents=[shared, run], help="train a network")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    train.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    train.add_argument("--minutes", type=float, help="length of the run, by the clock")
    train.add_argument("--steps", type=count, help="length of the run, in steps")
    train.add_argument(
        "--tensorboard", action="store_true", help="also log for TensorBoard, into the folder"
    )

    find = commands.add_parser(
        "lr-find", parents=[shared, run], help="which learning rate a run can bear, with a plot"
    )
    find.add_argument(
        "--out", type=Path, default=Path("lr-find.png"), help="the plot (.png, .svg; %(default)s)"
    )
    find.add_argument("--steps", type=count, default=80, help="(%(default)s)")
    find.add_argument("--low", type=float, default=0.01, help="first factor (%(default)s)")
    find.add_argument("--high", type=float, default=30.0, help="last factor (%(default)s)")

    back = commands.add_parser(
        "unweight",
        parents=[shared, taught],
        help="take a run's class weights back out of its trained weights",
    )
    back.add_argument("weights", type=Path, help="a .weights.h5 file")
    back.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .weights.h5")
    back.add_argument(
        "--strength",
        type=share,
        default=0.5,
        metavar="S",
        help="0 changes nothing, 1 takes them back wholly (%(default)s)",
    )
    back.add_argument("-y", "--overwrite", action="store_true", help="replace an existing file")


def train(options: argparse.Namespace) -> None:
    """Run ``rt-seg-model train``."""
    from rtseg.models.train import check_folder
    from rtseg.models.watch import TensorBoardLog, Watcher
    from rtseg.tools.train_bar import TrainBar

    changes: dict[str, Any] = {}
    if options.steps is not None:
        changes |= {"steps": options.steps, "minutes": None}
    if options.minutes is not None:
        changes["minutes"] = options.minutes
    config = _config(options, changes)
    check_folder(options.out, resume=options.resume)
    watchers: list[Watcher] = []
    if options.tensorboard:
        watchers.append(TensorBoardLog(options.out / "tensorboard"))
    bar = TrainBar() if sys.stderr.isatty() else None
    if bar is not None:
        watchers.append(bar)
    try:
        run = _run(options, config, options.out, watchers, bar)
        if options.resume:
            run.resume()
        run.train()
    finally:
        for watcher in watchers:
            watcher.close()


def find_rate(options: argparse.Namespace) -> None:
    """Run ``rt-seg-model lr-find``."""
    import tempfile

    from rtseg.models import lr_find

    lr_find.check(options.low, options.high, options.steps)
    lr_find.check_plot(options.out)
    config = _config(options, {"validation": None})
    with tempfile.TemporaryDirectory() as folder:
        run = _run(options, config, Path(folder), (), None)
        with run.batches() as loader:
            points = lr_find.find_rate(
                run.trainer,
                loader,
                low=options.low,
                high=options.high,
                steps=options.steps,
                tick=lambda p: print(f"rate {p.rate:.4g} loss {p.loss:.4f} ({p.smooth:.4f})"),
            )
    factor = lr_find.suggest(points)
    lr_find.plot(points, factor, options.out)
    print(
        f"suggested: {factor:.2g} times the configuration's rates: "
        f"head_rate {factor * config.head_rate:.2g}, "
        f"encoder_rate {factor * config.encoder_rate:.2g}; plot: {options.out}"
    )


def take_back_weights(options: argparse.Namespace) -> None:
    """Run ``rt-seg-model unweight``."""
    from rtseg.engines.labels import CITYSCAPES
    from rtseg.models.files import check_free, check_weights_name, save_weights
    from rtseg.models.registry import build, load_weights
    from rtseg.models.stock import class_weights, load_stock
    from rtseg.models.unweight import unweight

    check_free(options.out, overwrite=options.overwrite)
    check_weights_name(options.out)
    config = _config(options, {"validation": None, "distill": 0.0})
    model = build(config.network)
    load_weights(model, str(options.weights))
    stock = load_stock(config.sources, options.data, limit=config.limit)
    weights = class_weights(stock.frequencies, cap=config.weight_cap)
    unweight(model, weights, options.strength)
    save_weights(model, options.out)
    listed = ", ".join(f"{n} {w:.2f}" for n, w in zip(CITYSCAPES.names, weights, strict=True))
    print(f"{options.out}: class weights ({listed}) taken back by {options.strength:g}")


def _config(options: argparse.Namespace, changes: dict[str, Any]) -> TrainConfig:
    """Read the configuration and apply what was asked for on the command line."""
    import dataclasses

    from rtseg.models.config import config_from_json, read_config
    from rtseg.models.errors import ModelError
    from rtseg.models.registry import check_name

    config = read_config(options.config)
    taught = [source.root for source in config.sources]
    known = list(dict.fromkeys(taught + ([config.validation.root] if config.validation else [])))
    roots = {}
    for entry in options.root:
        name, sign, place = entry.partition("=")
        if sign and str(Path(place).resolve()) in known:
            continue  # a run's own configuration, which says already where the data lie
        if not sign or name not in known:
            raise ModelError(
                f"--root {entry}: expected NAME=DIR with NAME one of {', '.join(known)}",
                reason="BAD_CONFIG",
            )
        roots[name] = str(Path(place).resolve())
    for name in options.without:
        if name not in taught:
            raise ModelError(
                f"--without {name}: the configuration has no such data set. "
                f"Allowed: {', '.join(taught)}",
                reason="BAD_CONFIG",
            )
    # What is asked for together is judged together: a data set that teaches may be left out
    # where teaching is switched off.
    fields = json.loads(config.to_json()) | changes
    if options.limit is not None:
        fields["limit"] = options.limit
    fields["sources"] = [
        dataclasses.asdict(source) | {"root": roots.get(source.root, source.root)}
        for source in config.sources
        if source.root not in options.without
    ]
    if fields["validation"]:
        place = fields["validation"]["root"]
        fields["validation"]["root"] = roots.get(place, place)
    if options.network is not None:
        fields["network"] = options.network
    for entry in options.changes:
        name, sign, text = entry.partition("=")
        try:
            fields[name] = json.loads(text) if sign else None
        except ValueError:
            fields[name] = text  # a plain word, such as sgd
        if not sign:
            raise ModelError(f"--set {entry}: expected OPTION=JSON", reason="BAD_CONFIG")
    where = "--set" if options.changes else options.config
    asked = config_from_json(json.dumps(fields), where)
    check_name(asked.network)  # what can be known at once is said before data are read
    start = getattr(options, "start", None)
    if start is not None and not is_file(start):
        raise ModelError(f"no such weights file: {start}", reason="NOT_FOUND")
    return asked


def _run(
    options: argparse.Namespace, config: TrainConfig, folder: Path, watchers: Any, bar: Any
) -> Run:
    from rtseg.engines.cache import writable_cache
    from rtseg.engines.threads import available_cores
    from rtseg.models.teacher import Teacher
    from rtseg.models.teacher_cache import open_remembered
    from rtseg.models.train import Run

    teacher = None
    say = bar.say if bar is not None else lambda line: print(line, flush=True)
    if options.teacher and not config.distill:
        say(f"teacher {options.teacher} is not asked: the configuration does not distil")
    elif options.teacher:
        asked, kept = Teacher(options.teacher), writable_cache(None, "teacher")
        teacher = asked.open() if kept is None else open_remembered(asked, kept)
    return Run(
        config,
        folder,
        options.data,
        lambda weights: _make_trainer(options, config, weights),
        say=say,
        teacher=teacher,
        watchers=watchers,
        workers=options.workers or max(1, available_cores() // 2),
    )


def _make_trainer(options: argparse.Namespace, config: TrainConfig, weights: Any) -> Trainer:
    from importlib.util import find_spec

    from rtseg.models.errors import ModelError, missing_package
    from rtseg.models.registry import LITE0_NETWORKS, builder, load_weights

    kind, first = options.trainer, options.start
    if kind == "auto" and options.devices is not None:
        kind = "keras"
    if kind == "auto":
        kind = "torch" if find_spec("torch") else "keras"
    if kind == "torch":
        if options.devices is not None:
            raise ModelError(
                "--devices needs --trainer keras and KERAS_BACKEND=jax. Received: --trainer torch",
                reason="BAD_CONFIG",
            )
        if not find_spec("torch"):
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
    from rtseg.models.keras_trainer import KerasTrainer, use_devices

    if options.devices is not None:
        count = use_devices(None if options.devices == "all" else options.devices)
        for phase in config.phases:
            if phase.batch % count:
                raise ModelError(
                    f"a batch of {phase.batch} views does not divide over {count} devices",
                    reason="BAD_CONFIG",
                )
    return KerasTrainer(builder(config.network), config, weights, prepare)
