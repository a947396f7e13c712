"""The clock of every peer, and what they share: only numpy and OpenCV are imported here."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import cv2
import numpy as np


class Clock:
    """Wall and CPU time from the first frame asked for to the output closed."""

    def __init__(self) -> None:
        self._wall_s = time.perf_counter()
        self._cpu_s = time.process_time()

    def report(self, frames: int, **about: Any) -> None:
        """Print one JSON line for ``benchmarks/peers.py``."""
        seconds = time.perf_counter() - self._wall_s
        cpu_s = time.process_time() - self._cpu_s
        figures = {
            "frames": frames,
            "fps": frames / seconds,
            "cpu_ms": 1e3 * cpu_s / frames,
            "memory_mib": peak_memory_mib(),
        }
        print(json.dumps({**figures, **about}))


def peak_memory_mib() -> float:
    """Return the highest resident memory of this process so far, in MiB."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        divisor = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / divisor


def arguments() -> dict[str, Any]:
    """Return the one argument, a JSON object: ``clip``, ``out``, ``model``, ``palette``, …"""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def table_bgr(palette: list[list[int]]) -> np.ndarray:
    """Return a lookup table from class id to BGR colour, uint8 256×1×3."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = np.array(palette, np.uint8)[:, ::-1]
    return table


def overlay(frame: np.ndarray, ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the frame with the colours of its class ids, as tutorials do it."""
    height, width = frame.shape[:2]
    large = cv2.resize(ids.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    colours = cv2.LUT(cv2.merge([large] * 3), table)
    return cv2.addWeighted(frame, 0.5, colours, 0.5, 0)


def writer_like(capture: cv2.VideoCapture, path: str) -> cv2.VideoWriter:
    """Return OpenCV's own mp4 writer for frames of the capture's size and rate."""
    size = (
        int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
    )
    code = cv2.VideoWriter.fourcc(*"mp4v")
    return cv2.VideoWriter(path, code, capture.get(cv2.CAP_PROP_FPS) or 30, size)
