"""How well frames of other shapes than Cityscapes' are segmented, filled and fitted.

The labelled images are cut to a shape (of the middle, all their rows or all their columns) and
brought to the network's input: scaled to fill it; as the engine's description says
(``EngineSpec.fit``: with gray around what would become too wide); and, of narrow shapes, to an
input of their own with as many pixels, as a run gives them. mIoU and pixel accuracy.

    python benchmarks/shapes.py CITYSCAPES [--limit 267] [--engine FILE] [--size 672x448]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import machine

from rtseg.calibration.cityscapes import Sample, find_samples, read_image, read_label
from rtseg.calibration.verify import cityscapes_table, count_pixels, score_pixels
from rtseg.engines.engine import U8, Engine
from rtseg.engines.fit import FILL, Fit
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.nearest import scale_nearest
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.engines.registry import open_engine
from rtseg.realtime.argument_values import input_size
from rtseg.realtime.shape import NARROW, size_like

SHAPES = ((9, 16), (3, 4), (1, 1), (4, 3), (16, 9), (2, 1), (3, 1))
"""Width to height."""


def cut(picture: U8, shape: tuple[int, int]) -> U8:
    """Return the middle of a picture, as large as a shape allows."""
    height, width = picture.shape[:2]
    columns = min(width, round(height * shape[0] / shape[1]))
    rows = min(height, round(width * shape[1] / shape[0]))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(picture[top : top + rows, left : left + columns])


def pairs(samples: list[Sample], shape: tuple[int, int]) -> Iterator[tuple[U8, U8]]:
    """Yield images and labels, cut."""
    for sample in samples:
        yield cut(read_image(sample.image), shape), cut(read_label(sample), shape)


def judged(engine: Engine, samples: list[Sample], shape: tuple[int, int], fit: Fit) -> str:
    """Return mIoU and pixel accuracy in percent."""
    spec = engine.spec
    table = cityscapes_table(spec.classes)
    matrix = np.zeros((len(CITYSCAPES), len(CITYSCAPES) + 1), np.int64)
    for image, label in pairs(samples, shape):
        pixels = array_to_engine_input(image, spec.height, spec.width, fit=fit)
        ids = fit.of_frame(engine.infer(pixels[None])[0], image.shape[1], image.shape[0])
        large = scale_nearest(table[ids], *label.shape)
        matrix += count_pixels(label, large, len(CITYSCAPES))
    scores = score_pixels(matrix)
    return f"{100 * scores.mean_iou:.1f}, {100 * scores.pixel_accuracy:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="a folder in Cityscapes' layout, split val")
    parser.add_argument("--limit", type=int, default=0, help="images (all)")
    parser.add_argument("--engine", type=Path, help="a network of Cityscapes' classes")
    parser.add_argument("--size", type=input_size, metavar="WxH", help="of its input (its own)")
    options = parser.parse_args()
    samples = find_samples(options.root, "val")
    samples = samples[:: max(1, len(samples) // options.limit)] if options.limit else samples
    with open_engine(options.engine, size=options.size) as engine:
        spec, profile = engine.spec, engine.profile()
        print(f"machine   {machine()}")
        print(
            f"network   {spec.network} {spec.width}x{spec.height} {profile.precision}, {spec.fit}"
        )
        print(f"images    {len(samples)}\n")
        print("| frame | filled: mIoU, pixels, % | fitted | an input of its shape |")
        print("|---|---|---|---|")
        for shape in SHAPES:
            filled, fitted = (judged(engine, samples, shape, fit) for fit in (FILL, spec.fit))
            own = ""
            if shape[0] / shape[1] < NARROW and options.engine is None:
                size = size_like(shape[0] / shape[1], spec.width * spec.height)
                with open_engine(size=size) as narrow:
                    own = f"{judged(narrow, samples, shape, spec.fit)} ({size[0]}x{size[1]})"
            print(f"| {shape[0]}:{shape[1]} | {filled} | {fitted} | {own} |", flush=True)


if __name__ == "__main__":
    main()
