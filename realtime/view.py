"""What the viewer wants to see, and how large the picture is that shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rtseg.realtime.errors import UsageError

View = Literal["overlay", "mask", "side-by-side", "input"]
VIEWS: tuple[View, ...] = get_args(View)

MAX_WIDTH_PX = 8192
"""Widest side-by-side picture: what H.264 decoders of level 5.2 still take (8688), rounded
down. Wider sources are scaled down on both sides."""


@dataclass(frozen=True)
class ViewOptions:
    """How labels become a picture.

    Attributes:
        view: ``overlay`` (colours over the frame), ``mask`` (colours alone), ``side-by-side``
            (frame left, overlay right) or ``input`` (the frame alone).
        alpha: weight of the colours in the overlay, 0..1.
        classes: ids of the classes that are coloured, or None for all.
        ignore_classes: ids of classes that are not coloured.
        legend: whether names and colours of the classes are drawn.
        hud: whether the figures of the run are drawn.

    Raises:
        UsageError: unknown view, or alpha outside 0..1 (the message converts percent).
    """

    view: View = "overlay"
    alpha: float = 0.5
    classes: tuple[int, ...] | None = None
    ignore_classes: tuple[int, ...] = ()
    legend: bool = False
    hud: bool = False

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise UsageError(f"unknown view {self.view!r}. Allowed: {', '.join(VIEWS)}")
        if not 0 <= self.alpha <= 1:  # False for NaN, too
            hint = ""
            if 1 < self.alpha <= 255:
                meant = self.alpha / (100 if self.alpha <= 100 else 255)
                hint = f"; did you mean {meant:.2g}?"
            raise UsageError(f"alpha must be 0..1. Received: {self.alpha:g}{hint}")

    def shown(self, class_count: int) -> tuple[int, ...]:
        """Return the ids of the classes that are coloured, in ascending order."""
        wanted = range(class_count) if self.classes is None else sorted(set(self.classes))
        return tuple(
            index
            for index in wanted
            if 0 <= index < class_count and index not in self.ignore_classes
        )


def panel_size(view: View, width: int, height: int) -> tuple[int, int]:
    """Return ``(width, height)`` in pixels of one panel of a picture; both are even.

    An odd frame is padded by repeating its last column or row, so no pixel is lost.
    """
    if view == "side-by-side" and 2 * width > MAX_WIDTH_PX:
        scale = MAX_WIDTH_PX / 2 / width
        width, height = MAX_WIDTH_PX // 2, max(1, math.floor(height * scale))
    return width + width % 2, height + height % 2


def picture_size(view: View, width: int, height: int) -> tuple[int, int]:
    """Return ``(width, height)`` in pixels of the picture made of a width×height frame."""
    columns, rows = panel_size(view, width, height)
    return (2 * columns if view == "side-by-side" else columns), rows
