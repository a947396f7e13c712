"""What rendering costs: milliseconds a picture for each view, one thread, no engine.

    python benchmarks/render.py [--size 1280x720] [--labels 512x512] [--threads 1]

Prints the median and the fastest of 200 pictures made of a frame of noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from fractions import Fraction

import av
import cv2
import numpy as np

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.frame import Frame
from rtseg.realtime.hud import HudText
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.view import ViewOptions

VIEWS = {
    "overlay": ViewOptions(),
    "overlay, HUD": ViewOptions(hud=True),
    "overlay, HUD, legend": ViewOptions(hud=True, legend=True),
    "overlay, one class left out": ViewOptions(ignore_classes=(10,)),
    "mask": ViewOptions("mask"),
    "side-by-side": ViewOptions("side-by-side"),
    "input": ViewOptions("input"),
}


def main() -> None:
    """Measure every view."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", default="1280x720", help="of the frame")
    parser.add_argument("--labels", default="512x512", help="size of the label map")
    parser.add_argument("--threads", type=int, default=1, help="OpenCV's")
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    label_width, label_height = (int(part) for part in options.labels.split("x"))
    cv2.setNumThreads(options.threads)

    random = np.random.default_rng(0)
    video = av.VideoFrame(width, height, "yuv420p")
    for plane in video.planes:
        np.frombuffer(memoryview(plane), np.uint8)[:] = random.integers(
            16, 235, plane.buffer_size, np.uint8
        )
    coarse = random.integers(0, 19, (label_height // 16, label_width // 16), np.uint8)
    labels = coarse.repeat(16, 0).repeat(16, 1)
    frame = Frame(0, video, 0, Fraction(1, 25))
    text = HudText.of(fps=24.0, latency_p50_ms=80, latency_p95_ms=110, engine="espnet-lite int8")
    print(f"{options.size} frame, {options.labels} labels, {options.threads} thread(s)")
    for name, view in VIEWS.items():
        renderer = Renderer(CITYSCAPES, view)
        spent_ms = []
        for _ in range(210):
            start_s = time.perf_counter()
            renderer.render(frame, labels, text)
            spent_ms.append(1000 * (time.perf_counter() - start_s))
        spent_ms = spent_ms[10:]
        print(f"{name:30} median {statistics.median(spent_ms):6.2f} ms, best {min(spent_ms):6.2f}")


if __name__ == "__main__":
    main()
