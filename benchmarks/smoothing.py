"""What ``--smooth`` brings and costs: flicker, accuracy, milliseconds.

    python benchmarks/smoothing.py CLIP [--frames 80] [--label PNG --label-frame 19]
                                   [--reference NETWORK.onnx --every 6]

Runs the shipped network (or ``--engine FILE``) over the first frames of a clip, as the loop does,
and prints for several strengths: how well consecutive label maps agree along the optical flow
(``rtseg.calibration.temporal``: warped mIoU and share of equal pixels); mIoU and pixel accuracy
on a labelled frame (labelIds of Cityscapes); the same against what a larger network says of every
n-th frame, which shows whether anything trails; and the CPU time of the smoothing, one thread.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from common import machine
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import Sample, read_label
from rtseg.calibration.metrics import Scores, confusion_matrix, scores
from rtseg.calibration.temporal import ConsistencyMeter, working_size
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.preprocess import to_engine_input
from rtseg.engines.registry import open_engine
from rtseg.models.teacher import Teacher, pseudo_label
from rtseg.realtime.frame import Frame
from rtseg.realtime.nearest import scale_nearest
from rtseg.realtime.smooth import Smoother
from rtseg.realtime.sources.resolve import open_source

U8 = NDArray[np.uint8]
STRENGTHS = (1, 2, 3)
MOVING = ("person", "rider", "car", "bus", "bicycle")


def against(truth: dict[int, U8], found: list[U8]) -> Scores:
    """Return the scores of label maps against those of some frames."""
    matrix = np.zeros((len(CITYSCAPES), len(CITYSCAPES)), np.int64)
    for index, label in truth.items():
        matrix += confusion_matrix(label, scale_nearest(found[index], *label.shape), len(matrix))
    return scores(matrix)


def line(name: str, found: Scores) -> str:
    """Return scores as text, percent."""
    moving = ", ".join(
        f"{cls} {100 * found.class_iou[CITYSCAPES.index(cls)]:.1f}" for cls in MOVING
    )
    return (
        f"  {name}: mIoU {100 * found.mean_iou:.2f}, pixels {100 * found.pixel_accuracy:.2f} "
        f"({moving})"
    )


def judge(frames: list[Frame], labels: list[U8], truths: dict[str, dict[int, U8]]) -> None:
    """Print what each strength does to the label maps of a clip."""
    for strength in STRENGTHS:
        smoother, meter = Smoother(strength), ConsistencyMeter(len(CITYSCAPES))
        steady, spent_ms = [], []
        for frame, raw in zip(frames, labels, strict=True):
            start_s = time.thread_time()
            steady.append(smoother.steady(frame.video, raw, frame.pts_s))
            spent_ms.append(1000 * (time.thread_time() - start_s))
            image = np.asarray(frame.video.to_ndarray(format="rgb24"), np.uint8)
            meter.add(image, scale_nearest(steady[-1], *working_size(*image.shape[:2])))
        found = meter.result()
        print(
            f"--smooth {strength}: warped mIoU {100 * found.mean_iou:.2f}, agreement "
            f"{100 * found.agreement:.2f} %; {statistics.median(spent_ms):.2f} CPU-ms a frame, "
            f"best {min(spent_ms[1:]):.2f}",
            flush=True,
        )
        for name, truth in truths.items():
            print(line(name, against(truth, steady)), flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--engine", help="an engine file (default: the shipped network)")
    parser.add_argument("--label", type=Path, help="labelIds of one frame")
    parser.add_argument("--label-frame", type=int, default=19)
    parser.add_argument("--reference", type=Path, help="a larger network, ONNX")
    parser.add_argument("--every", type=int, default=6, help="frames the reference sees")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(machine())
    with open_source(options.clip) as source, open_engine(options.engine) as engine:
        frames = list(itertools.islice(source.frames(), options.frames))
        size = engine.spec.height, engine.spec.width
        labels = [engine.infer(to_engine_input(f.video, *size)[None])[0] for f in frames]
    truths: dict[str, dict[int, U8]] = {}
    if options.label:
        sample = Sample(options.label.stem, options.label, options.label, "labelIds")
        truths["labelled frame"] = {options.label_frame: read_label(sample)}
    if options.reference:
        see = Teacher(options.reference).open()
        truth: dict[int, U8] = {}
        for index in range(options.every - 1, len(frames), options.every):
            image = np.asarray(frames[index].video.to_ndarray(format="rgb24"), np.uint8)
            truth[index] = pseudo_label(see(image), 0.0, working_size(*image.shape[:2]))
        truths["larger network"] = truth
    judge(frames, labels, truths)


if __name__ == "__main__":
    main()
