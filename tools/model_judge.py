"""``rt-seg-model evaluate`` and ``consistency``: how good a network is, on labels and clips."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import UsageError
from rtseg.tools.argument_types import count, size

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rtseg.calibration.cityscapes import Sample
    from rtseg.engines.labels import ClassTable
    from rtseg.models.evaluate import U8, OpenNetwork


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the two commands to the subparsers of ``rt-seg-model``."""
    network = argparse.ArgumentParser(add_help=False)
    network.add_argument("model", type=Path, help="an .onnx or engine file, or .weights.h5")
    network.add_argument("--network", help="of .weights.h5 (espnet-lite)")
    network.add_argument(
        "--size",
        type=size,
        metavar="WxH",
        help="of the network's input (default: the file's own; of .weights.h5 640x480 for "
        "espnet-lite, 512x512 for others)",
    )
    network.add_argument(
        "--upsample",
        choices=("labels", "logits"),
        default="labels",
        help="what is brought to the label's size: class ids, as in the loop, or logits",
    )
    network.add_argument("--backend", default="auto", help="of an engine file (%(default)s)")

    evaluate = commands.add_parser(
        "evaluate", parents=[shared, network], help="class, category and instance IoU, accuracy"
    )
    evaluate.add_argument("--data", type=Path, required=True, metavar="ROOT", help="data set")
    evaluate.add_argument("--kind", choices=("cityscapes", "camvid"), default="cityscapes")
    evaluate.add_argument("--split", default="val", help="(%(default)s)")
    evaluate.add_argument("--limit", type=count, metavar="N", help="the first N images")
    evaluate.add_argument(
        "--gallery",
        type=Path,
        metavar="DIR",
        help="write predictions beside labels as PNG, and one page with all of them",
    )
    evaluate.add_argument(
        "--outline",
        type=count,
        metavar="PX",
        help="also judge the pixels within PX label pixels of an outline, and the others, apart",
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")

    consistency = commands.add_parser(
        "consistency",
        parents=[shared, network],
        help="whether consecutive frames of a clip get the same answer",
        description="Moves each prediction along the optical flow into the next frame and "
        "compares: flow-warped mIoU. Needs no labels, and says nothing of being right.",
    )
    consistency.add_argument("clip", help="a video, or a folder of consecutive frames")
    consistency.add_argument("--max-frames", type=count, metavar="N", help="the first N frames")
    consistency.add_argument(
        "--smooth", type=count, metavar="N", help="steady the answers as rt-seg --smooth N does"
    )
    consistency.add_argument("--json", action="store_true", help="print one JSON object")


def _predictor(options: argparse.Namespace) -> AbstractContextManager[OpenNetwork]:
    from rtseg.models.evaluate import open_predictor

    return open_predictor(
        options.model,
        network=options.network or "espnet-lite",
        size=options.size,
        upsample=options.upsample,
        backend=options.backend,
    )


def _check_network(options: argparse.Namespace) -> None:
    if options.network and not options.model.name.endswith(".weights.h5"):
        raise UsageError(
            "--network is for .weights.h5 files; others say what they are. "
            f"Received: {options.model}"
        )
    if options.backend != "auto" and options.model.name.endswith(".weights.h5"):
        raise UsageError(
            "--backend is for engine and ONNX files; weights run on Keras. "
            f"Received: --backend {options.backend}, {options.model}"
        )
    if options.upsample == "logits" and options.backend not in ("auto", "onnxruntime"):
        raise UsageError(
            "--upsample logits is computed by ONNX Runtime alone. Allowed: --backend auto, "
            f"onnxruntime. Received: --backend {options.backend}"
        )


def evaluate(options: argparse.Namespace) -> None:
    """Judge a network on labelled images and print the scores."""
    _check_network(options)
    from rtseg.calibration.camvid import CAMVID
    from rtseg.engines.labels import CITYSCAPES
    from rtseg.models.evaluate import as_text, find_data, judge
    from rtseg.models.evaluation import (
        InstanceJudge,
        OutlineJudge,
        as_json,
        details_text,
        outline_text,
    )
    from rtseg.models.gallery import Gallery

    samples = find_data(options.data, options.split, options.kind)[: options.limit]

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr)

    instances = InstanceJudge(CITYSCAPES)
    observe: list[Callable[[Sample, U8, U8], None]] = []
    if options.kind == "cityscapes":
        observe.append(instances)
    classes = CAMVID if options.kind == "camvid" else CITYSCAPES
    outline = OutlineJudge(classes, options.outline) if options.outline else None
    if outline:
        observe.append(outline)
    gallery = None
    with _predictor(options) as network:
        if options.gallery:
            _refuse_others(network.classes)
            gallery = Gallery(options.gallery, classes)
            observe.append(gallery)
        table, result = judge(
            network,
            samples,
            options.kind,
            classes=network.classes,
            progress=progress,
            observe=observe,
        )
    if gallery:
        title = f"{options.model.name} on {options.data.resolve().name}, {options.split}"
        page = gallery.finish(title, result)
    if options.json:
        found = as_json(table, result, instances, images=len(samples), outline=outline)
        print(json.dumps(found))
        return
    print(as_text(table, result))
    details = details_text(table, result, instances)
    if details:
        print(details)
    if outline:
        print(outline_text(outline))
    print(f"{len(samples)} images")
    if gallery:
        print(page)


def _refuse_others(classes: ClassTable) -> None:
    from rtseg.calibration.verify import cityscapes_table
    from rtseg.engines.labels import VOID_ID
    from rtseg.models.errors import ModelError

    mapping = cityscapes_table(classes)
    others = [name for number, name in enumerate(classes.names) if mapping[number] == VOID_ID]
    if others:
        raise ModelError(
            "a gallery has colours for the classes that are judged alone. Received: a network "
            f"with {len(others)} others, such as {others[0]}. Allowed: leave --gallery out",
            reason="CLASS_MISMATCH",
        )


def _number(value: float) -> float | None:
    """Return what JSON can say of a value: it has no NaN."""
    return None if math.isnan(value) else value


def consistency(options: argparse.Namespace) -> None:
    """Judge how steady a network is on a clip and print the figures."""
    _check_network(options)
    from itertools import islice

    import numpy as np

    from rtseg.calibration.temporal import ConsistencyMeter, working_size
    from rtseg.realtime.smooth import Smoother
    from rtseg.realtime.sources.resolve import open_source

    smoother = Smoother(options.smooth or 1)
    with _predictor(options) as network, open_source(options.clip) as source:
        meter = ConsistencyMeter(len(network.classes))
        for frame in islice(source.frames(), options.max_frames):
            image = np.asarray(frame.video.to_ndarray(format="rgb24"), np.uint8)
            labels = network(image, working_size(*image.shape[:2]))
            meter.add(image, smoother.steady(frame.video, labels, frame.pts_s))
    result = meter.result()
    by_class = {
        name: float(iou)
        for name, iou in zip(network.classes.names, result.class_iou, strict=True)
        if not np.isnan(iou)
    }
    if options.json:
        found = {
            "pairs": result.pairs,
            "mean_iou": _number(result.mean_iou),
            "agreement": _number(result.agreement),
            "judged": result.judged,
            "class_iou": by_class,
        }
        print(json.dumps(found))
        return
    rows = {**by_class, "warped mIoU": result.mean_iou, "agreement": result.agreement}
    width = max(14, *(len(name) for name in rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {100 * value:5.2f}")
    print(f"{result.pairs} pairs of frames, {100 * result.judged:.1f} % of the pixels judged")
