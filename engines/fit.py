"""Where a frame lies in an engine's input: all of it, or as much as its shape allows."""

from __future__ import annotations

from dataclasses import dataclass

from rtseg.engines.engine import U8


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


def fit(width: int, height: int, columns: int, rows: int) -> Region:
    """Return where a frame lies that keeps its shape: as large as can be, in the middle.

    Args:
        width: of the frame, in pixels.
        height: of the frame, in pixels.
        columns: of the engine's input.
        rows: of the engine's input.
    """
    scale = min(columns / width, rows / height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    return Region((rows - down) // 2, (columns - across) // 2, down, across)


def of_frame(labels: U8, width: int, height: int, pad: int | None) -> U8:
    """Return the class ids that are the frame's.

    Args:
        labels: uint8, H×W, what the engine gave.
        width: of the frame, in pixels.
        height: of the frame, in pixels.
        pad: the engine's `EngineSpec.pad`.

    Returns:
        ``labels`` where nothing was padded, else a part of them, side by side in memory.
    """
    if pad is None:
        return labels
    rows, columns = labels.shape
    own: U8 = labels[fit(width, height, columns, rows).slices].copy()
    return own
