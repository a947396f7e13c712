"""supervision's ``process_video`` around the same engine: masks of a class, its annotator."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import cv2
import numpy as np
import openvino
import supervision as sv
from clocked import Clock, arguments


def main() -> None:
    """Run once."""
    given = arguments()
    tuned = given["tuned"]
    config = {"PERFORMANCE_HINT": "LATENCY"} if tuned else {}
    core = openvino.Core()
    network = core.read_model(given["model"])
    height, width = (axis.get_length() for axis in list(network.inputs[0].partial_shape)[1:3])
    network.reshape([1, height, width, 3])  # the file leaves the batch open
    compiled = core.compile_model(network, "CPU", config)
    palette = sv.ColorPalette([sv.Color(*colour) for colour in given["palette"]])
    annotator = sv.MaskAnnotator(color=palette, opacity=0.5)
    frames = 0

    def callback(frame: np.ndarray, index: int) -> np.ndarray:
        nonlocal frames
        frames += 1
        image = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
        ids = compiled(image[None])[0][0]
        size = (frame.shape[1], frame.shape[0])
        large = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)
        present = np.unique(large)
        masks = np.stack([large == number for number in present])
        detections = sv.Detections(
            xyxy=np.tile(np.array([0, 0, *size], np.float32), (len(present), 1)),
            mask=masks,
            class_id=present.astype(int),
        )
        annotated: np.ndarray = annotator.annotate(frame.copy(), detections)
        return annotated

    callback(np.zeros((720, 1280, 3), np.uint8), 0)
    frames = 0
    takes = inspect.signature(sv.process_video).parameters
    ahead = {"prefetch": 8, "writer_buffer": 8} if tuned else {}
    clock = Clock()
    sv.process_video(
        source_path=given["clip"],
        target_path=given["out"],
        callback=callback,
        **{name: value for name, value in ahead.items() if name in takes},
    )
    names = ("supervision", "openvino")
    clock.report(frames, versions=", ".join(f"{name} {version(name)}" for name in names))


if __name__ == "__main__":
    main()
