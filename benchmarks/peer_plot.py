"""Horizontal bars as one SVG file, without a library."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, ROW, LEFT, RIGHT, TOP = 760, 30, 250, 60, 40


def bars(values: Mapping[str, Sequence[float]], title: str) -> str:
    """Return bars of the medians, longest first, with a line from the least to the most.

    Args:
        values: several measurements a name.
        title: above the bars.
    """
    ordered = sorted(values.items(), key=lambda item: -statistics.median(item[1]))
    most = max(max(series) for _, series in ordered)
    height = TOP + ROW * len(ordered) + 10

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / most, 1)

    parts = [f'<text x="10" y="24" font-size="15" font-weight="bold">{escape(title)}</text>']
    for row, (name, series) in enumerate(ordered):
        y, middle = TOP + ROW * row, statistics.median(series)
        colour = "#2a6fb0" if name.startswith("rt-seg") else "#9aa5b1"
        centre = y + ROW / 2 - 2
        parts.append(
            f'<text x="{LEFT - 8}" y="{centre + 4}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LEFT}" y="{y + 3}" width="{x(middle) - LEFT}" height="{ROW - 10}" '
            f'fill="{colour}"/>'
            f'<line x1="{x(min(series))}" x2="{x(max(series))}" y1="{centre}" y2="{centre}" '
            'stroke="#222" stroke-width="2"/>'
            f'<text x="{x(max(series)) + 6}" y="{centre + 4}">{middle:.1f}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="sans-serif" font-size="13">'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>' + "".join(parts) + "</svg>\n"
    )
