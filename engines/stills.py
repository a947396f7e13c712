"""Image files' bytes decoded by OpenCV, with every way to fail as one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def decode_still(data: bytes, flags: int) -> NDArray[Any] | None:
    """Return the pixels of an image, or None where it is none, damaged or too large.

    Args:
        data: the file's bytes.
        flags: as of ``cv2.imdecode``, which raises for some of what it cannot decode.
    """
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # more pixels than it takes
        return None
    return None if pixels is None else np.asarray(pixels)
