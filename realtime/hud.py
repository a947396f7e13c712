"""HUD and legend: small bitmaps, drawn once, composited into the planes of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.labels import ClassTable
from rtseg.realtime.frame import U8
from rtseg.realtime.lettering import drawable
from rtseg.realtime.yuv import ColourTags, colours_to_yuv

BOX_OPACITY = 0.65
"""How much of the picture the backing box hides, so that text is read on snow and at night."""

SMALLEST = 0.55
"""How far a legend shrinks to fit into a picture, before it leaves out lines."""


@dataclass(frozen=True)
class HudText:
    """The lines of the HUD. The box is redrawn only when they change."""

    lines: tuple[str, ...]

    @classmethod
    def of(
        cls,
        *,
        fps: float | None = None,
        latency_p50_ms: float | None = None,
        latency_p95_ms: float | None = None,
        dropped: int = 0,
        engine: str = "",
        precision: str = "",
        source_s: float | None = None,
    ) -> HudText:
        """Put the figures of a run into lines; what is None or empty is left out.

        Args:
            fps: throughput, frames a second.
            latency_p50_ms: median end-to-end latency, milliseconds.
            latency_p95_ms: 95th percentile of it.
            dropped: frames dropped so far (shown when there are any).
            engine: name of the network or backend.
            precision: the arithmetic in use.
            source_s: time in the source, seconds.
        """
        lines = []
        if fps is not None:
            lines.append(f"{fps:.1f} fps")
        if latency_p50_ms is not None:
            tail = "" if latency_p95_ms is None else f"  p95 {latency_p95_ms:.0f}"
            lines.append(f"latency {latency_p50_ms:.0f} ms{tail}")
        if dropped:
            lines.append(f"dropped {dropped}")
        if engine or precision:
            lines.append(" ".join(word for word in (engine, precision) if word))
        if source_s is not None:
            minutes, seconds = divmod(max(source_s, 0.0), 60)
            hours, minutes = divmod(int(minutes), 60)
            lines.append(f"{hours}:{minutes:02}:{int(seconds):02}")
        return cls(tuple(lines))


@dataclass(frozen=True)
class Stamp:
    """A half-transparent bitmap in YUV 4:2:0, of even size.

    For each plane: the numbers to add (already weighted), and the weight of the picture below,
    uint8 with 255 for one.
    """

    added: tuple[U8, U8, U8]
    kept: tuple[U8, U8, U8]

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return self.added[0].shape[1], self.added[0].shape[0]

    @classmethod
    def from_rgba(cls, bitmap: U8, tags: ColourTags) -> Stamp:
        """Convert an H×W×4 bitmap (RGB and opacity; H and W even)."""
        height, width = bitmap.shape[:2]
        colours = colours_to_yuv(bitmap[..., :3].reshape(-1, 3), tags)
        yuv = colours.reshape(height, width, 3).astype(np.float64)
        opacity = bitmap[..., 3].astype(np.float64) / 255
        weighted = yuv * opacity[..., None]
        small = weighted.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
        small_opacity = opacity.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        kept, small_kept = (_to_u8(255 * (1 - values)) for values in (opacity, small_opacity))
        return cls(
            (_to_u8(weighted[..., 0]), _to_u8(small[..., 1]), _to_u8(small[..., 2])),
            (kept, small_kept, small_kept),
        )

    def draw(self, planes: tuple[U8, U8, U8], x: int, y: int) -> None:
        """Composite into the planes of a picture, the top left corner at even (x, y)."""
        import cv2

        for index, plane in enumerate(planes):
            step = 1 if index == 0 else 2
            added, kept = self.added[index], self.kept[index]
            rows, columns = added.shape
            below = plane[y // step : y // step + rows, x // step : x // step + columns]
            below[:] = cv2.add(cv2.multiply(below, kept, scale=1 / 255), added)


class StampCache:
    """Draws HUD and legend; keeps their bitmaps until text, size or colours change."""

    def __init__(self, classes: ClassTable) -> None:
        self._classes = classes
        self._hud = lru_cache(maxsize=2)(self._make_hud)
        self._legend = lru_cache(maxsize=4)(self._make_legend)

    def draw_hud(self, planes: tuple[U8, U8, U8], text: HudText, tags: ColourTags) -> None:
        """Draw the HUD in the top left corner."""
        height, width = planes[0].shape
        margin = _margin(width, height)
        self._at(planes, self._hud(text, tags, width, height), margin, margin)

    def draw_caption(
        self, planes: tuple[U8, U8, U8], lines: Sequence[str], tags: ColourTags
    ) -> None:
        """Draw lines of text in the bottom left corner."""
        if not lines:
            return
        height, width = planes[0].shape
        stamp = self._hud(HudText(tuple(lines)), tags, width, height)
        if stamp is not None:
            margin = _margin(width, height)
            self._at(planes, stamp, margin, (height - stamp.size[1] - margin) // 2 * 2)

    def draw_legend(
        self, planes: tuple[U8, U8, U8], show: tuple[int, ...], tags: ColourTags
    ) -> None:
        """Draw names and colours of the shown classes in the top right corner."""
        if not show:
            return
        height, width = planes[0].shape
        stamp = self._legend(show, tags, width, height)
        if stamp is not None:
            margin = _margin(width, height)
            self._at(planes, stamp, (width - stamp.size[0] - margin) // 2 * 2, margin)

    @staticmethod
    def _at(planes: tuple[U8, U8, U8], stamp: Stamp | None, x: int, y: int) -> None:
        if stamp is None:
            return
        height, width = planes[0].shape
        x = max(0, min(x, width - stamp.size[0]))
        y = max(0, min(y, height - stamp.size[1]))
        stamp.draw(planes, x, y)

    def _make_hud(self, text: HudText, tags: ColourTags, width: int, height: int) -> Stamp | None:
        return _text_box(text.lines, (), tags, width, height)

    def _make_legend(
        self, show: tuple[int, ...], tags: ColourTags, width: int, height: int
    ) -> Stamp | None:
        names = tuple(self._classes.names[index] for index in show)
        colours = tuple(self._classes.palette[index] for index in show)
        return _text_box(names, colours, tags, width, height)


def _text_box(
    lines: Sequence[str],
    swatches: Sequence[tuple[int, int, int]],
    tags: ColourTags,
    width: int,
    height: int,
) -> Stamp | None:
    """Draw lines of text, each behind a colour swatch if there are any, into a box.

    Of those with swatches only as many as can be read in the picture's height; the last line then
    says how many there are beside them.
    """
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX
    scale, margin = max(0.4, min(width, height) / 1100), _margin(width, height)
    thickness = max(1, round(scale * 1.4))
    shown = [drawable(line) for line in lines]
    sizes = [cv2.getTextSize(line, font, scale, thickness) for line in shown]
    tallest = max(size[0][1] for size in sizes)
    base = max(size[1] for size in sizes)
    pitch = round((tallest + base) * 1.15)
    padding = max(4, tallest // 2)
    most = int(((height - 2 * margin) / SMALLEST - 2 * padding) / pitch)
    if swatches and len(lines) > max(2, most):
        kept = max(1, most - 1)
        more = f"… {len(lines) - kept} more"
        return _text_box((*lines[:kept], more), swatches[:kept], tags, width, height)
    swatch = round(tallest * 1.4) if swatches else 0
    indent = padding + (swatch + padding if swatches else 0)
    box_width = indent + max(size[0][0] for size in sizes) + padding
    box_height = 2 * padding + pitch * len(shown)

    mask = np.zeros((box_height, box_width), np.uint8)
    bitmap = np.zeros((box_height, box_width, 4), np.uint8)
    for row, line in enumerate(shown):
        top = padding + row * pitch
        cv2.putText(mask, line, (indent, top + tallest), font, scale, 255, thickness, cv2.LINE_AA)
        if row < len(swatches):
            middle = top + tallest // 2
            half = max(2, tallest // 2)
            area = slice(middle - half, middle + half), slice(padding, padding + swatch)
            bitmap[area] = (*swatches[row], 255)
    coverage = mask.astype(np.float64)[..., None] / 255
    bitmap[..., :3] = _to_u8(bitmap[..., :3] * (1 - coverage) + 255 * coverage)
    behind = np.maximum(bitmap[..., 3], round(255 * BOX_OPACITY))
    bitmap[..., 3] = np.maximum(behind, mask)
    return _fit(bitmap, tags, width - 2 * margin, height - 2 * margin)


def _fit(bitmap: U8, tags: ColourTags, width: int, height: int) -> Stamp | None:
    """Shrink a bitmap that does not fit into the picture, and make its size even."""
    import cv2

    factor = min(1.0, width / bitmap.shape[1], height / bitmap.shape[0])
    even = [max(0, int(length * factor)) // 2 * 2 for length in bitmap.shape[:2]]
    if min(even) < 2:
        return None
    if factor < 1:
        bitmap = cv2.resize(bitmap, (even[1], even[0]), interpolation=cv2.INTER_AREA)
    return Stamp.from_rgba(bitmap[: even[0], : even[1]], tags)


def _margin(width: int, height: int) -> int:
    return max(2, min(width, height) // 90) // 2 * 2


def _to_u8(values: NDArray[np.float64]) -> U8:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
