"""How much of the labelled people ``--redact`` covers, and what it costs.

    python benchmarks/redaction.py --data CITYSCAPES [--split val] [--classes person,rider]

Runs the shipped network (or ``--engine FILE``) over labelled images, each for itself, so
nothing is held over from the frame before, and prints for several margins: the share of the
labelled pixels that are covered, the share of the labelled instances (where the data set has
them) that are covered to at least 95 %, and the share of all other pixels that is covered
besides. Without ``--data``, only the cost: CPU milliseconds a frame of 1280×720, one thread.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from common import machine
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import (
    Sample,
    find_samples,
    read_image,
    read_instances,
    read_label,
)
from rtseg.calibration.instances import INSTANCES_A_LABEL
from rtseg.engines.engine import Engine
from rtseg.engines.labels import CITYSCAPES, VOID_ID
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.engines.registry import open_engine
from rtseg.realtime.frame import Frame
from rtseg.realtime.nearest import scale_nearest
from rtseg.realtime.palette import select_classes
from rtseg.realtime.redact import STYLES, RedactOptions, Redactor
from rtseg.realtime.redact_paint import Mosaic
from rtseg.realtime.redact_region import Regions
from rtseg.realtime.refine import Seen

MARGINS = (0.0, 0.01, 0.02, 0.04, 0.08)
ENOUGH = 0.95
STEP = 2  # every second row and column of the labels is enough
HEIGHTS_PX = (0, 50, 100, 200, 10_000)


class Tally:
    """Adds up one way of covering, image by image."""

    def __init__(self, classes: Sequence[int]) -> None:
        self._classes = classes
        self._pixels = np.zeros((len(classes), 2), np.int64)
        self._others = np.zeros(2, np.int64)
        self.instances: list[tuple[int, bool]] = []

    def add(
        self,
        covered: NDArray[np.bool_],
        label: NDArray[np.uint8],
        instances: NDArray[np.uint16] | None,
    ) -> None:
        """Add one image: what is covered, its label, its instances."""
        counts = (
            np.bincount(label[covered], minlength=256),
            np.bincount(label.ravel(), minlength=256),
        )
        for row, index in enumerate(self._classes):
            self._pixels[row] += [count[index] for count in counts]
        people = [*self._classes, VOID_ID]
        self._others += [count.sum() - count[people].sum() for count in counts]
        if instances is None:
            return
        label_ids = {CITYSCAPES.label_ids[index] for index in self._classes}
        for number in np.unique(instances[instances >= INSTANCES_A_LABEL]):
            if int(number) // INSTANCES_A_LABEL in label_ids:
                where = instances == number
                rows = np.flatnonzero(where.any(1))
                height_px = STEP * int(rows[-1] - rows[0] + 1)
                self.instances.append((height_px, bool(covered[where].mean() >= ENOUGH)))

    def line(self) -> str:
        """Return the shares in percent."""
        shares = [*(100 * covered / max(1, all_) for covered, all_ in self._pixels)]
        total = self._pixels.sum(0)
        people = [enough for _, enough in self.instances]
        parts = [f"{share:7.1f}" for share in shares]
        parts.append(f"{100 * total[0] / max(1, total[1]):7.1f}")
        parts.append(f"{100 * sum(people) / len(people):9.1f}" if people else f"{'-':>9}")
        parts.append(f"{100 * self._others[0] / max(1, self._others[1]):8.1f}")
        return " ".join(parts)


def recall(engine: Engine, samples: Sequence[Sample], classes: Sequence[int]) -> None:
    """Print what is covered of labelled images."""
    tallies = {"network alone": Tally(classes)}
    tallies |= {f"margin {margin:g}": Tally(classes) for margin in MARGINS}
    spec = engine.spec
    for sample in samples:
        image, label, instances = (
            read_image(sample.image),
            read_label(sample),
            read_instances(sample),
        )
        found = engine.infer(array_to_engine_input(image, spec.height, spec.width)[None])[0]
        label = np.ascontiguousarray(label[::STEP, ::STEP])
        instances = None if instances is None else instances[::STEP, ::STEP]
        height, width = label.shape
        alone = np.isin(scale_nearest(found, height, width), classes)
        tallies["network alone"].add(alone, label, instances)
        mosaic = Mosaic(width, height)
        for margin in MARGINS:
            regions = Regions(classes, margin=margin).update(found, width, height, 0.0)
            tallies[f"margin {margin:g}"].add(mosaic.covered(regions), label, instances)
    names = " ".join(f"{CITYSCAPES.names[index]:>7}" for index in classes)
    print(f"{len(samples)} images, engine {spec.network} {spec.width}x{spec.height}; percent")
    print(f"{'covered':16}{names} {'all':>7} {'instances':>9} {'others':>8}")
    for name, tally in tallies.items():
        print(f"{name:16}{tally.line()}")
    for low, high in itertools.pairwise(HEIGHTS_PX):
        rows = {
            name: [enough for height_px, enough in tally.instances if low <= height_px < high]
            for name, tally in tallies.items()
        }
        count = len(rows["network alone"])
        if count:
            text = ", ".join(f"{name} {100 * sum(r) / count:.0f}" for name, r in rows.items())
            print(f"instances {low} to {high} rows high ({count}), to {100 * ENOUGH:.0f} %: {text}")


def cost() -> None:
    """Print what covering costs, for a frame with three people in it."""
    cv2.setNumThreads(1)
    video = av.VideoFrame(1280, 720, "yuv420p")
    random = np.random.default_rng(0)
    for plane in video.planes:
        np.frombuffer(memoryview(plane), np.uint8)[:] = random.integers(
            16, 235, plane.buffer_size, np.uint8
        )
    person = CITYSCAPES.index("person")
    labels = np.zeros((512, 512), np.uint8)
    labels[200:400, 100:140] = labels[220:260, 300:310] = labels[220:260, 400:410] = person
    for name, ids in (("nobody", labels * 0), ("three people", labels)):
        for style in STYLES:
            redactor = Redactor(RedactOptions((person,), style))
            spent_ms = []
            for index in range(300):
                seen = Seen(Frame(index, video, index, Fraction(1, 30)), ids, ids)
                start_s = time.thread_time()
                redactor.push(seen)
                spent_ms.append(1000 * (time.thread_time() - start_s))
            print(
                f"{name}, {style:9} median {statistics.median(spent_ms):5.2f} CPU-ms, "
                f"best {min(spent_ms):5.2f}"
            )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="a data set in the layout of Cityscapes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--classes", default="person,rider")
    parser.add_argument("--engine", help="an engine file (default: the shipped network)")
    parser.add_argument("--limit", type=int, help="the first N images")
    options = parser.parse_args()
    print(machine())
    cost()
    if options.data:
        with open_engine(options.engine) as engine:
            samples = find_samples(options.data, options.split)[: options.limit]
            recall(engine, samples, select_classes(options.classes, engine.spec.classes))


if __name__ == "__main__":
    main()
