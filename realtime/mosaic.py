"""One picture of many: where each goes, and how it is put there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from rtseg.engines.labels import ClassTable
from rtseg.realtime.frame import U8
from rtseg.realtime.hud import StampCache
from rtseg.realtime.yuv import BT709, ColourTags, black, converted, planes_420

if TYPE_CHECKING:
    import av

TAGS = ColourTags(BT709, full_range=False, transfer=BT709, primaries=BT709)
"""Colours of the picture; those of its parts are converted."""

WIDEST_PX = 1920
CELL_PX = (640, 360)
"""A cell's width and height, where as many fit into :data:`WIDEST_PX`."""

DIM = 0.5
"""What is left of the contrast of a picture that is no longer now."""

Planes = tuple[U8, U8, U8]


@dataclass(frozen=True)
class Cell:
    """A place in the picture, in even pixels."""

    x: int
    y: int
    width: int
    height: int


def layout(count: int) -> tuple[tuple[int, int], list[Cell]]:
    """Return the picture's ``(width, height)`` and the cells of ``count`` sources.

    >>> layout(2)[0], layout(4)[0], layout(9)[0], layout(16)[0]
    ((1280, 360), (1280, 720), (1920, 1080), (1920, 1080))

    Raises:
        ValueError: fewer than one.
    """
    if count < 1:
        raise ValueError(f"a picture has at least one cell. Received: {count}")
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    width = min(CELL_PX[0], WIDEST_PX // columns // 4 * 4)
    height = width * CELL_PX[1] // CELL_PX[0] // 2 * 2
    cells = [
        Cell(number % columns * width, number // columns * height, width, height)
        for number in range(count)
    ]
    return (columns * width, rows * height), cells


def fit(size: tuple[int, int], pixel_ratio: Fraction, cell: Cell) -> tuple[int, int, int, int]:
    """Return x, y, width and height, all even, of a picture within a cell, from its corner.

    Args:
        size: the picture's width and height.
        pixel_ratio: width of its pixels over their height.
        cell: where it goes.
    """
    wide, high = size[0] * float(pixel_ratio or 1), float(size[1])
    scale = min(cell.width / wide, cell.height / high)
    width = min(cell.width, max(2, round(wide * scale) // 2 * 2))
    height = min(cell.height, max(2, round(high * scale) // 2 * 2))
    return (cell.width - width) // 4 * 2, (cell.height - height) // 4 * 2, width, height


class Tile:
    """One source's part of the picture; made anew only when something in it changes.

    Args:
        cell: where it goes.
        classes: of the engine (for the cache of texts).
    """

    def __init__(self, cell: Cell, classes: ClassTable) -> None:
        self.cell = cell
        self._stamps = StampCache(classes)
        y, u, v = black(TAGS)
        half = (cell.height // 2, cell.width // 2)
        self._empty: Planes = (
            np.full((cell.height, cell.width), y, np.uint8),
            np.full(half, u, np.uint8),
            np.full(half, v, np.uint8),
        )
        self._made: Planes = self._empty
        self._key: tuple[object, ...] | None = None
        self._picture: av.VideoFrame | None = None

    def draw(
        self,
        picture: av.VideoFrame | None,
        pixel_ratio: Fraction,
        caption: Sequence[str],
        *,
        dim: bool,
    ) -> Planes:
        """Return the tile's planes; they are not to be written to.

        Args:
            picture: the newest picture of the source, or None where there is none yet.
            pixel_ratio: width of its pixels over their height.
            caption: lines of text in its corner.
            dim: whether the picture is no longer now.
        """
        key = (id(picture), pixel_ratio, tuple(caption), dim)
        if key != self._key:
            made = (self._empty[0].copy(), self._empty[1].copy(), self._empty[2].copy())
            if picture is not None:
                self._put(picture, pixel_ratio, made, dim)
            self._stamps.draw_caption(made, caption, TAGS)
            self._made, self._key = made, key
            self._picture = picture  # its id is in the key: nothing else may get it
        return self._made

    def _put(self, picture: av.VideoFrame, pixel_ratio: Fraction, made: Planes, dim: bool) -> None:
        import cv2

        x, y, width, height = fit((picture.width, picture.height), pixel_ratio, self.cell)
        small = converted(picture, TAGS, (width, height))
        if small.format.name != "yuv420p":
            small = small.reformat(format="yuv420p")
        for index, source in enumerate(planes_420(small)):
            step = 1 if index == 0 else 2
            rows, columns = source.shape
            target = made[index][y // step :, x // step :][:rows, :columns]
            if dim:
                centre = 16 if index == 0 else 128
                source = cv2.convertScaleAbs(source, alpha=DIM, beta=centre * (1 - DIM))
            target[:] = source


def compose(size: tuple[int, int], parts: Sequence[tuple[Cell, Planes]]) -> av.VideoFrame:
    """Return a new yuv420p picture of ``size`` = (width, height) with the parts in it."""
    import av

    picture = av.VideoFrame(size[0], size[1], "yuv420p")
    for index, (plane, value) in enumerate(zip(planes_420(picture), black(TAGS), strict=True)):
        step = 1 if index == 0 else 2
        plane[:] = value
        for cell, planes in parts:
            rows, columns = planes[index].shape
            top, left = cell.y // step, cell.x // step
            plane[top : top + rows, left : left + columns] = planes[index]
    TAGS.write_to(picture)
    return picture
