"""Does it pay to leave frames out of the network and carry their labels over from the last one?

On consecutive frames, against the labels of a stronger network (no human labelled them): mIoU,
pixels that agree, and CPU time a frame of network and carrying together, for

- the network on every frame, in each shipped quality;
- the network on every k-th frame, its labels kept for the frames between;
- the same, moved along the optical flow (OpenCV's DIS flow, ultrafast, on small gray pictures).

    python benchmarks/shortcut.py FRAMES --reference ONNX [--steps 2,3,4]

FRAMES is a folder of pictures in order or a video; the reference takes normalised float RGB.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from common import machine
from numpy.typing import NDArray

from rtseg.calibration.metrics import confusion_matrix, scores
from rtseg.engines.engine import Engine
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.engines.quality import quality_points
from rtseg.engines.registry import open_engine
from rtseg.models.teacher import Teacher

U8 = NDArray[np.uint8]
FLOW_WIDTH = 256
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


class Carrier:
    """Moves the last labels to the next frame along the flow between the two."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: U8 | None = None

    def see(self, image: U8) -> NDArray[np.float32] | None:
        """Take a frame; return the flow from it to the frame before, or None at the first."""
        height = image.shape[0] * FLOW_WIDTH // image.shape[1]
        small = cv2.resize(image, (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        before, self._before = self._before, gray
        return None if before is None else self._flow.calc(gray, before, None)

    @staticmethod
    def move(labels: U8, flow: NDArray[np.float32]) -> U8:
        """Return the labels where the flow says they went."""
        height, width = labels.shape
        scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
        large = cv2.resize(flow, (width, height)) * scale
        columns, rows = np.meshgrid(
            np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        )
        moved: U8 = cv2.remap(
            labels,
            large[..., 0] + columns,
            large[..., 1] + rows,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return moved


def run(
    engine: Engine, images: list[U8], step: int, carrier: Carrier | None
) -> tuple[list[U8], float]:
    """Return the labels of every frame and CPU time a frame, in ms."""
    height, width = engine.spec.height, engine.spec.width
    inputs = [array_to_engine_input(image, height, width)[None] for image in images]
    engine.infer(inputs[0])
    found: list[U8] = []
    labels = np.empty((height, width), np.uint8)
    begin_s = time.process_time()
    for index, (image, pixels) in enumerate(zip(images, inputs, strict=True)):
        flow = carrier.see(image) if carrier else None
        if index % step == 0:
            labels = engine.infer(pixels)[0]
        elif carrier is not None and flow is not None:
            labels = carrier.move(labels, flow)
        found.append(labels)
    return found, 1e3 * (time.process_time() - begin_s) / len(images)


def judged(found: list[U8], reference: list[U8]) -> tuple[float, float]:
    """Return mIoU and pixel accuracy in percent."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for labels, wanted in zip(found, reference, strict=True):
        size = (wanted.shape[1], wanted.shape[0])
        large = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        total += confusion_matrix(wanted, large, CLASSES)
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

    def row(name: str, engine: Engine, step: int, make: Callable[[], Carrier | None]) -> None:
        found, cpu_ms = min(
            (run(engine, images, step, make()) for _ in range(3)), key=lambda each: each[1]
        )
        miou, pixels = judged(found, reference)
        print(f"| {name} | {miou:.2f} | {pixels:.2f} | {cpu_ms:.1f} |", flush=True)

    for point in quality_points("espnet-lite"):
        with open_engine(quality=point.quality) as engine:
            row(f"{point.quality}, every frame", engine, 1, lambda: None)
    with open_engine() as engine:
        for step in (int(part) for part in options.steps.split(",")):
            row(f"every {step}., kept", engine, step, lambda: None)
            row(f"every {step}., moved along the flow", engine, step, Carrier)


if __name__ == "__main__":
    main()
