"""Pseudo-labels: what a stronger network sees on frames that nobody labelled.

Writes an ordinary Cityscapes root, so a run mixes it in like any other data set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.calibration_set import IMAGE_SUFFIXES
from rtseg.calibration.cityscapes import IMAGE_SUFFIX, read_image
from rtseg.engines.labels import CITYSCAPES, VOID_ID
from rtseg.models.errors import ModelError, missing_package
from rtseg.models.files import write_whole


@dataclass(frozen=True)
class Teacher:
    """A network as ONNX: float NCHW input, logits in trainId order.

    Attributes:
        path: the ONNX file.
        mean, std: normalisation of RGB 0..1.
    """

    path: Path
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def open(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """Return a function from RGB uint8 (h, w, 3) to probabilities (C, H, W).

        Raises:
            ModelError: ONNX Runtime is missing, the file cannot be used (``BAD_WEIGHTS``) or
                knows too few classes (``CLASS_MISMATCH``).
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise missing_package("onnxruntime", "a teacher") from error
        try:
            session = ort.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(
                f"teacher {self.path} cannot be opened: {str(error).splitlines()[0]}",
                reason="BAD_WEIGHTS",
            ) from error
        entry = session.get_inputs()[0]
        shape: list[Any] = list(entry.shape)
        fits = len(shape) == 4 and shape[1] == 3 and entry.type == "tensor(float)"
        if not fits or not all(isinstance(side, int) for side in shape[2:]):
            raise ModelError(
                f"teacher {self.path} takes {entry.type} {shape}; allowed: tensor(float) "
                "(1, 3, H, W) with fixed H and W",
                reason="BAD_WEIGHTS",
            )
        height, width = shape[2:]
        try:
            found = session.run(None, {entry.name: np.zeros((1, 3, height, width), np.float32)})[0]
        except Exception as error:
            raise ModelError(
                f"teacher {self.path} does not run: {str(error).splitlines()[0]}",
                reason="BAD_WEIGHTS",
            ) from error
        if found.ndim != 4 or found.shape[1] < len(CITYSCAPES):
            raise ModelError(
                f"teacher {self.path} gives {found.dtype} {found.shape}; allowed: logits "
                f"(1, C, h, w), the first {len(CITYSCAPES)} channels in trainId order",
                reason="CLASS_MISMATCH",
            )
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)

        def probabilities(image: NDArray[np.uint8]) -> NDArray[np.float32]:
            small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
            x = (small.astype(np.float32) / 255.0 - mean) / std
            logits = session.run(None, {entry.name: x.transpose(2, 0, 1)[None]})[0][0]
            logits = np.exp(logits - logits.max(axis=0, keepdims=True))
            return np.asarray(logits / logits.sum(axis=0, keepdims=True), np.float32)

        return probabilities


def pseudo_label(
    probabilities: NDArray[np.float32],
    threshold: float,
    size: tuple[int, int],
    *,
    ignore_bottom: float = 0.0,
) -> NDArray[np.uint8]:
    """Turn probabilities into trainIds.

    Args:
        probabilities: float32 (C, h, w).
        threshold: pixels whose largest probability is below it become 255, as do those of
            channels behind the 19th.
        size: (height, width) of the result, in pixels.
        ignore_bottom: share of the rows, the lowest, that become 255: the car's own bonnet.

    Returns:
        uint8 (height, width).
    """
    height, width = size
    planes = [
        cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        for plane in probabilities
    ]
    stacked = np.stack(planes)
    best = stacked.argmax(axis=0)
    sure = (stacked.max(axis=0) >= threshold) & (best < len(CITYSCAPES))
    sure[round(height * (1.0 - ignore_bottom)) :] = False
    return np.where(sure, best, VOID_ID).astype(np.uint8)


def write_pseudo_labels(
    images: Sequence[Path],
    teacher: Teacher,
    out: Path,
    *,
    threshold: float = 0.6,
    ignore_bottom: float = 0.18,
) -> int:
    """Label ``images`` and write them as a Cityscapes root with split ``train``.

    Images keep their names; those of one name get their folder's before it. Each is copied in
    at most 1024 columns beside its label.

    Returns:
        The number of images written.

    Raises:
        ModelError: no image (``NOT_FOUND``), two images would be written under one name
            (``BAD_DATA``, before anything is written), the teacher cannot be used, or the disk
            is full (``NO_SPACE``) or may not be written (``PERMISSION_DENIED``).
        CalibrationError: an image cannot be read.
    """
    if not images:
        raise ModelError(
            f"no image to label. Allowed: {' '.join(IMAGE_SUFFIXES)}, or folders of them",
            reason="NOT_FOUND",
        )
    names = _names(images)
    see = teacher.open()
    for path, name in zip(images, names, strict=True):
        image = read_image(path)
        city = name.split("_", 1)[0] or "images"  # as of _DSC0001
        if image.shape[1] > 1024:
            size = (1024, round(image.shape[0] * 1024 / image.shape[1]))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = image.shape[:2]
        label = pseudo_label(see(image), threshold, (height, width), ignore_bottom=ignore_bottom)
        for folder, suffix, data in (
            ("leftImg8bit", f"{IMAGE_SUFFIX}.png", image[:, :, ::-1]),
            ("gtFine", "_gtFine_labelTrainIds.png", label),
        ):
            png = cv2.imencode(".png", data)[1].tobytes()
            write_whole(out / folder / "train" / city / f"{name}{suffix}", png)
    return len(images)


def _names(images: Sequence[Path]) -> list[str]:
    """Return a name for each image: its own, with its folder's before it where two share one."""
    own = [path.stem.removesuffix(IMAGE_SUFFIX) for path in images]
    often = Counter(own)
    names = [
        f"{path.resolve().parent.name}_{name}" if often[name] > 1 else name
        for path, name in zip(images, own, strict=True)
    ]
    taken: dict[str, Path] = {}
    for path, name in zip(images, names, strict=True):
        if name in taken:
            raise ModelError(
                f"two images would be written as {name}. Received: {taken[name]} and {path}. "
                "Allowed: other names, or folders of other names",
                reason="BAD_DATA",
            )
        taken[name] = path
    return names
