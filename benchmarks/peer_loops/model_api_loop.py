"""OpenVINO's model_api: its segmentation model, one frame at a time or through its pipeline."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import cv2
import numpy as np
from clocked import Clock, arguments, overlay, table_bgr, writer_like
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import SegmentationModel
from model_api.pipelines import AsyncPipeline


def one_by_one(model: Any, capture: Any, writer: Any, table: np.ndarray) -> int:
    """Call the model with each frame, as its README does."""
    frames = 0
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames
        writer.write(overlay(frame, ids_of(model(frame)), table))
        frames += 1


def pipelined(model: Any, capture: Any, writer: Any, table: np.ndarray) -> int:
    """Keep requests in flight, as Intel's demos do."""
    pipeline = AsyncPipeline(model)
    following, written, ended = 0, 0, False
    kept: dict[int, np.ndarray] = {}
    while True:
        result = pipeline.get_result(written)
        if result:
            writer.write(overlay(kept.pop(written), ids_of(result[0]), table))
            written += 1
        elif ended and written == following:
            return written
        elif not ended and pipeline.is_ready():
            ok, frame = capture.read()
            if ok:
                kept[following] = frame
                pipeline.submit_data(frame, following)
                following += 1
            else:
                ended = True
                pipeline.await_all()
        else:
            pipeline.await_any()


def ids_of(result: Any) -> np.ndarray:
    """Return the class ids of a result."""
    ids: np.ndarray = getattr(result, "resultImage", result)
    return ids


def main() -> None:
    """Run once."""
    given = arguments()
    tuned = given["tuned"]
    adapter = OpenvinoAdapter(
        create_core(),
        given["model"],
        plugin_config={"PERFORMANCE_HINT": "THROUGHPUT"} if tuned else None,
        max_num_requests=4 if tuned else 0,
    )
    model = SegmentationModel(
        adapter,
        {"return_soft_prediction": False, "reverse_input_channels": True},
        preload=True,
    )
    model(np.zeros((720, 1280, 3), np.uint8))
    clock = Clock()
    capture = cv2.VideoCapture(given["clip"])
    writer = writer_like(capture, given["out"])
    run = pipelined if tuned else one_by_one
    frames = run(model, capture, writer, table_bgr(given["palette"]))
    writer.release()
    names = ("openvino-model-api", "openvino")
    clock.report(frames, versions=", ".join(f"{name} {version(name)}" for name in names))


if __name__ == "__main__":
    main()
