"""Temporal consistency: do consecutive frames of a clip get the same answer?

The previous prediction is moved along the optical flow into the current frame, and the
mIoU between the two is the consistency (Liu et al. 2020, arXiv:2002.11433, who warp with
a learned flow; here it is OpenCV's DIS flow, Kroeger et al. 2016). No labels are needed,
and a network that sees nothing at all is perfectly consistent: read it beside the mIoU.

Where the flow there and back does not meet (Sundaram et al. 2010), mostly at what moves
into view, nothing is judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.verify import count_pixels, score_pixels
from rtseg.engines.labels import VOID_ID

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

#: Flow is computed on frames at most this wide.
MAX_WIDTH_PIXELS = 1024
#: Tolerance of the way there and back: share of the squared lengths, and squared pixels.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 0.01, 0.5


@dataclass(frozen=True)
class Consistency:
    """Agreement of consecutive predictions; ratios of 0 to 1, NaN where nothing was judged.

    Attributes:
        mean_iou: mean over the classes that were seen.
        class_iou: float64 (classes,), NaN for a class never seen.
        agreement: share of the judged pixels with the same class.
        judged: share of all pixels that was judged.
        pairs: pairs of consecutive frames.
    """

    mean_iou: float
    class_iou: NDArray[np.float64]
    agreement: float
    judged: float
    pairs: int


def working_size(height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) at which frames of a size are compared."""
    scale = min(1.0, MAX_WIDTH_PIXELS / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def warp_labels(labels: U8, flow: F32) -> U8:
    """Fetch each pixel's class from where the flow points.

    Args:
        labels: class ids (H, W) of the other frame.
        flow: (H, W, 2), x and y in pixels from this frame to the other.

    Returns:
        uint8 (H, W), 255 where the flow leaves the frame.
    """
    height, width = labels.shape
    x = np.rint(np.arange(width, dtype=np.float32) + flow[..., 0]).astype(np.int64)
    y = np.rint(np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]).astype(np.int64)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    warped = np.full(labels.shape, VOID_ID, np.uint8)
    warped[inside] = labels[y[inside], x[inside]]
    return warped


def reliable(there: F32, back: F32) -> NDArray[np.bool_]:
    """Where following ``there`` and then ``back``, both (H, W, 2), returns to the start."""
    height, width = there.shape[:2]
    x = np.arange(width, dtype=np.float32) + there[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + there[..., 1]
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = ((there + returned) ** 2).sum(-1)
    lengths = (there**2).sum(-1) + (returned**2).sum(-1)
    return np.asarray(error < RELATIVE_TOLERANCE * lengths + ABSOLUTE_TOLERANCE)


class ConsistencyMeter:
    """Takes the frames of a clip and their predictions in order.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        self._matrix = np.zeros((classes, classes + 1), np.int64)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._last: tuple[U8, U8] | None = None
        self._pixels = 0
        self._pairs = 0

    def add(self, image: U8, labels: U8) -> None:
        """Compare one frame with the one before.

        Args:
            image: RGB uint8 (H, W, 3).
            labels: class ids uint8 at ``working_size`` of the image.

        Raises:
            CalibrationError: the labels have another size, or the frame is of another
                size than the one before.
        """
        size = working_size(*image.shape[:2])
        if labels.shape != size:
            raise CalibrationError(
                f"labels {labels.shape} do not fit a frame that is compared at {size}",
                reason="BAD_INPUT",
            )
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        gray = np.asarray(cv2.resize(gray, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        last, self._last = self._last, (gray, labels)
        if last is None:
            return
        if last[0].shape != size:
            raise CalibrationError(
                f"a frame of {size} follows one of {last[0].shape}; all must have one size",
                reason="BAD_INPUT",
            )
        try:
            there = np.asarray(self._flow.calc(gray, last[0], None), np.float32)
            back = np.asarray(self._flow.calc(last[0], gray, None), np.float32)
        except cv2.error as error:
            raise CalibrationError(
                f"frames of {size} are too small for optical flow", reason="BAD_INPUT"
            ) from error
        expected = warp_labels(last[1], there)
        expected[~reliable(there, back)] = VOID_ID
        self._matrix += count_pixels(expected, labels, len(self._matrix))
        self._pixels += labels.size
        self._pairs += 1

    def result(self) -> Consistency:
        """Sum up.

        Raises:
            CalibrationError: fewer than two frames.
        """
        if not self._pairs:
            raise CalibrationError(
                "consistency needs at least 2 consecutive frames", reason="BAD_INPUT"
            )
        found = score_pixels(self._matrix)
        return Consistency(
            mean_iou=found.mean_iou,
            class_iou=found.class_iou,
            agreement=found.pixel_accuracy,
            judged=found.pixels / self._pixels,
            pairs=self._pairs,
        )
