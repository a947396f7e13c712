"""Where a frame lies in an engine's input: all of it, or as much as its shape allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]

MOST_OBLONG = 4.0
"""Of a pixel: its longer side over the other. Recorders that store every second column have 2."""


@dataclass(frozen=True)
class Region:
    """Rows and columns of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The same to index an array of rows and columns with."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True)
class Fit:
    """How frames are brought to the size of an engine's input.

    Attributes:
        pad: the gray (0..255) around a frame that does not fill the input; None: all fill it.
        stretch: least and most that a frame's width may grow by against its height, to fill
            more: 1 and 1 keep its shape.
    """

    pad: int | None = None
    stretch: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.pad is not None and self.pad not in range(256):
            raise ValueError(f"pad is a whole number from 0 to 255. Received: {self.pad!r}")
        least, most = self.stretch
        if not 0 <= least <= most or not most > 0:
            raise ValueError(
                "stretch is two numbers, the first at most the second. "
                f"Received: {', '.join(map(str, self.stretch))}"
            )

    def place(self, width: int, height: int, columns: int, rows: int) -> Region:
        """Return where a frame lies: as large as can be, in the middle.

        Args:
            width: of the frame, in pixels.
            height: of the frame, in pixels.
            columns: of the engine's input.
            rows: of the engine's input.
        """
        shape, wanted = width / height, columns / rows
        least, most = self.stretch
        if self.pad is None or least <= wanted / shape <= most:
            return Region(0, 0, rows, columns)
        shape *= min(max(wanted / shape, least), most)
        across, down = columns, rows
        if shape < wanted:
            across = max(1, round(rows * shape))
        else:
            down = max(1, round(columns / shape))
        return Region((rows - down) // 2, (columns - across) // 2, down, across)

    def of_pixels(self, aspect: float) -> Fit:
        """Return the same for frames whose pixels are not square.

        Args:
            aspect: width of a pixel over its height; see :func:`true_aspect`.
        """
        aspect = true_aspect(aspect)
        if aspect == 1:
            return self
        return Fit(self.pad, (self.stretch[0] * aspect, self.stretch[1] * aspect))

    def of_frame(self, labels: U8, width: int, height: int) -> U8:
        """Return the class ids that are the frame's.

        Args:
            labels: uint8, H×W, what the engine gave.
            width: of the frame, in pixels.
            height: of the frame, in pixels.

        Returns:
            ``labels`` where the frame fills the input, else a part of them, side by side in
            memory.
        """
        rows, columns = labels.shape
        place = self.place(width, height, columns, rows)
        if (place.height, place.width) == (rows, columns):
            return labels
        own: U8 = labels[place.slices].copy()
        return own


def true_aspect(aspect: float) -> float:
    """Return the width of a pixel over its height, or 1 where no recording has such pixels."""
    return aspect if 1 / MOST_OBLONG <= aspect <= MOST_OBLONG else 1.0


FILL = Fit()
"""Every frame is scaled to the whole input, whatever its shape."""
