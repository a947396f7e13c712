"""The loop of a hundred tutorials: OpenCV reads, ONNX Runtime infers, OpenCV draws and writes.

``tuned`` adds what such a loop can have cheaply: a thread that reads and shrinks ahead, one
that draws and writes, no spinning threads in the runtime.
"""

from __future__ import annotations

import queue
import threading
from typing import Any

import cv2
import numpy as np
import onnxruntime
from clocked import Clock, arguments, overlay, table_bgr, writer_like


def plain(given: dict[str, Any], infer: Any, size: tuple[int, int]) -> int:
    """One thing after the other; return the frames written."""
    table = table_bgr(given["palette"])
    capture = cv2.VideoCapture(given["clip"])
    writer = writer_like(capture, given["out"])
    frames = 0
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        image = cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_BGR2RGB)
        writer.write(overlay(frame, infer(image[None]), table))
        frames += 1
    writer.release()
    return frames


def threaded(given: dict[str, Any], infer: Any, size: tuple[int, int]) -> int:
    """Read, infer and write side by side; return the frames written."""
    table = table_bgr(given["palette"])
    capture = cv2.VideoCapture(given["clip"])
    writer = writer_like(capture, given["out"])
    read: queue.Queue[Any] = queue.Queue(4)
    done: queue.Queue[Any] = queue.Queue(4)

    def reader() -> None:
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            read.put((frame, cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_BGR2RGB)))
        read.put(None)

    def drawer() -> None:
        while (item := done.get()) is not None:
            writer.write(overlay(*item, table))

    threads = [threading.Thread(target=reader), threading.Thread(target=drawer)]
    for thread in threads:
        thread.start()
    frames = 0
    while (item := read.get()) is not None:
        frame, image = item
        done.put((frame, infer(image[None])))
        frames += 1
    done.put(None)
    for thread in threads:
        thread.join()
    writer.release()
    return frames


def main() -> None:
    """Run once."""
    given = arguments()
    options = onnxruntime.SessionOptions()
    if given["tuned"]:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        given["model"], options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    _, height, width, _ = session.get_inputs()[0].shape

    def infer(image: np.ndarray) -> np.ndarray:
        labels: np.ndarray = session.run(None, {name: image})[0][0]
        return labels

    infer(np.zeros((1, height, width, 3), np.uint8))
    clock = Clock()
    frames = (threaded if given["tuned"] else plain)(given, infer, (width, height))
    clock.report(frames, versions=f"onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
