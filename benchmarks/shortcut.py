"""Does it pay to leave frames out of the network and carry their labels over from the last one?

On consecutive frames, against the labels of a stronger network (no human labelled them): mIoU,
pixels that agree, and CPU time a frame of network and carrying together, for

- the network on every frame, in each shipped quality;
- the network on every k-th frame, its labels kept for the frames between;
- the same, moved along the optical flow, as ``rt-seg --keyframes`` does.

    python benchmarks/shortcut.py FRAMES --reference ONNX [--steps 2,3,4]

FRAMES is a folder of pictures in order or a video; the reference takes normalised float RGB.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
from common import machine
from numpy.typing import NDArray

from rtseg.calibration.metrics import confusion_matrix, scores
from rtseg.engines.engine import Engine
from rtseg.engines.keyframes import KeyframeEngine
from rtseg.engines.nearest import scale_nearest
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.engines.quality import quality_points
from rtseg.engines.registry import open_engine
from rtseg.models.teacher import Teacher

U8 = NDArray[np.uint8]
CLASSES = 19


def frames_of(path: Path, most: int) -> Iterator[U8]:
    """Yield RGB pictures at 1024×512 at most."""
    if path.is_dir():
        for file in sorted(path.iterdir())[:most]:
            with av.open(str(file)) as picture:
                yield next(picture.decode(video=0)).to_ndarray(
                    width=1024, height=512, format="rgb24"
                )
        return
    with av.open(str(path)) as video:
        for frame in itertools.islice(video.decode(video=0), most):
            yield frame.to_ndarray(width=1024, height=512, format="rgb24")


def run(engine: Engine, images: list[U8], step: int) -> tuple[list[U8], float]:
    """Return the labels of every frame and CPU time a frame, in ms.

    Labels of the frames between every ``step``-th are those of the frame before, as they are.
    """
    height, width = engine.spec.height, engine.spec.width
    inputs = [array_to_engine_input(image, height, width)[None] for image in images]
    engine.infer(inputs[0])
    found: list[U8] = []
    begin_s = time.process_time()
    for index, pixels in enumerate(inputs):
        if index % step == 0:
            labels = engine.result(engine.submit(pixels))[0]
        found.append(labels)
    return found, 1e3 * (time.process_time() - begin_s) / len(images)


def judged(found: list[U8], reference: list[U8]) -> tuple[float, float]:
    """Return mIoU and pixel accuracy in percent."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for labels, wanted in zip(found, reference, strict=True):
        total += confusion_matrix(wanted, scale_nearest(labels, *wanted.shape), CLASSES)
    result = scores(total)
    return 100 * result.mean_iou, 100 * result.pixel_accuracy


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path)
    parser.add_argument("--reference", type=Path, required=True, help="a stronger network's ONNX")
    parser.add_argument("--steps", default="2,3,4")
    parser.add_argument("--most", type=int, default=60, help="frames (%(default)s)")
    options = parser.parse_args()
    images = list(frames_of(options.frames, options.most))
    teacher = Teacher(options.reference).open()
    reference = [teacher(image)[:CLASSES].argmax(axis=0).astype(np.uint8) for image in images]
    print(f"machine  {machine()}")
    print(f"{options.frames.name}: {len(images)} frames, against {options.reference.stem}\n")
    print("| way | mIoU | pixels | CPU-ms a frame |")
    print("|---|---|---|---|")

    def row(name: str, make: Callable[[], Engine], step: int = 1) -> None:
        found, cpu_ms = min((run(make(), images, step) for _ in range(3)), key=lambda one: one[1])
        miou, pixels = judged(found, reference)
        print(f"| {name} | {miou:.2f} | {pixels:.2f} | {cpu_ms:.1f} |", flush=True)

    steps = [int(part) for part in options.steps.split(",")]
    for point in quality_points("espnet-lite"):
        with open_engine(quality=point.quality) as engine:
            row(f"{point.quality}, every frame", partial(_same, engine))
            for step in steps:
                row(f"{point.quality}, one in {step}, kept", partial(_same, engine), step)
                row(f"{point.quality}, one in {step}, moved", partial(KeyframeEngine, engine, step))


def _same(engine: Engine) -> Engine:
    return engine


if __name__ == "__main__":
    main()
