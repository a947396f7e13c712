"""A teacher that is asked once for each image, whichever run asks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.engines.lookup import is_file
from rtseg.engines.wholefile import replacing
from rtseg.models.teacher import Teacher

#: Columns and rows of what is kept: what a run learns from, see `rtseg.models.stock.soften`.
SIZE = (256, 128)


def open_remembered(
    teacher: Teacher, folder: Path
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a function from RGB uint8 (h, w, 3) to probabilities (C, 128, 256).

    Answers are kept in ``folder`` in steps of 1/255, one file for each image and teacher, some
    tens of KiB each; the teacher is opened when the first one is missing. What cannot be
    written is asked again the next time.

    Raises:
        ModelError: the teacher is needed and cannot be opened.
    """
    identity = hashlib.sha256(repr((teacher.mean, teacher.std)).encode())
    if teacher.path.is_file():
        identity.update(teacher.path.read_bytes())
    name = identity.hexdigest()[:16]
    opened: list[Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = []

    def ask(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not opened:
            opened.append(teacher.open())
        planes = opened[0](image)
        small = [cv2.resize(plane, SIZE, interpolation=cv2.INTER_AREA) for plane in planes]
        return np.round(255.0 * np.stack(small)).astype(np.uint8)

    def probabilities(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        key = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:32]
        kept = folder / name / f"{key}.npz"
        try:
            with np.load(kept) as file:
                answer = file["soft"]
        except Exception:  # missing, cut off, or of an older layout
            answer = ask(image)
            _keep(kept, answer)
        return np.asarray(answer, np.float32) / 255.0

    if not is_file(teacher.path):
        opened.append(teacher.open())  # says what is wrong, at once
    return probabilities


def _keep(path: Path, answer: NDArray[np.uint8]) -> None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, soft=answer)
