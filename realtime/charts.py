"""Charts as inline SVG: no script, no library, no request. Colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from rtseg.realtime.histogram import LatencyHistogram
from rtseg.realtime.series import Interval

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 26, 36
_MOST_BARS = 40
_FINEST = 0.01  # a bar's width over the largest value; the histogram knows 0.5 %


def ticks(largest: float, wanted: int = 5) -> list[float]:
    """Return round numbers from 0 that cover ``largest``, about ``wanted`` of them.

    >>> ticks(37)
    [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    if not 1e-6 <= largest < math.inf:  # less than a nanosecond is none
        return [0.0, 1.0]
    rough = largest / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    count = math.ceil(largest / step * 0.9999)
    return [round(step * number, 12) for number in range(count + 1)]


def latency_chart(parts: Sequence[Interval]) -> str:
    """Return mean and maximum of the latency over the time of the run."""
    end_s = max((part.start_s for part in parts), default=0.0)
    values = ticks(max((part.largest for part in parts), default=0.0))
    across_s, top = (end_s or 1.0), values[-1]

    def points(which: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x_of(time_s / across_s)},{y_of(value / top)}" for time_s, value in which)

    highest = points((part.start_s, part.largest) for part in parts)
    mean = points((part.start_s, part.mean) for part in parts)
    return svg(
        "Latency over the run: mean and maximum",
        grid(values, top, "ms")
        + time_axis(end_s)
        + f'<polyline class="worst" points="{highest}"/>'
        + f'<polyline class="mean" points="{mean}"/>',
    )


def histogram_chart(histogram: LatencyHistogram) -> str:
    """Return how many frames took how long, up to the 99th percentile in equal steps."""
    least, most = histogram.min_ms, histogram.percentile(99)
    if histogram.count == 0:
        return svg("No frames", "")
    finest_ms = max(_FINEST * most, _FINEST)
    span = max(most - least, finest_ms)
    count = max(1, min(_MOST_BARS, int(span / finest_ms)))
    bounds = [least + span * (number + 1) / count for number in range(count)]
    running = histogram.at_most(bounds)
    bars = [after - before for before, after in zip([0, *running], running, strict=False)]
    rows = ticks(max(bars))
    shapes = []
    for number, bar in enumerate(bars):
        left, right = x_of(number / count), x_of((number + 1) / count)
        top = y_of(bar / rows[-1])
        low_ms = least + span * number / count
        shapes.append(
            f'<rect class="bar" x="{left}" y="{top}" width="{max(0.5, right - left - 1):.1f}" '
            f'height="{max(0.0, y_of(0) - top):.1f}">'
            f"<title>{bar} frames: {low_ms:.1f} to {bounds[number]:.1f} ms</title></rect>"
        )
    step_ms = ticks(span, 8)[1]
    marks = [
        step_ms * number for number in range(math.ceil(least / step_ms), 1 + int(most / step_ms))
    ]
    labels = [((mark - least) / span, f"{mark:.6g}") for mark in marks]
    return svg(
        "How many frames took how long",
        grid(rows, rows[-1], "frames") + "".join(shapes) + x_axis(labels, "latency, ms"),
    )


def x_of(share: float) -> float:
    """Return where a share of the width, 0 to 1, lies."""
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def y_of(share: float) -> float:
    """Return where a share of the height, 0 to 1, lies."""
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def grid(
    values: Sequence[float], top: float, unit: str, says: Callable[[float], str] = "{:g}".format
) -> str:
    """Return level lines with their values, of which ``top`` is the highest, and the unit."""
    lines = []
    for value in values:
        y = y_of(value / top)
        lines.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{says(value)}</text>'
        )
    return f'<text x="{LEFT}" y="{TOP - 10}">{unit}</text>' + "".join(lines)


def x_axis(labels: Iterable[tuple[float, str]], title: str, *, bottom: int = HEIGHT) -> str:
    """Return what stands below a chart: labels at shares of its width, and what they are."""
    texts = [
        f'<text x="{x_of(share)}" y="{bottom - BOTTOM + 15}" text-anchor="middle">{label}</text>'
        for share, label in labels
        if 0 <= share <= 1
    ]
    middle = (WIDTH + LEFT - RIGHT) / 2
    return (
        "".join(texts) + f'<text x="{middle}" y="{bottom - 5}" text-anchor="middle">{title}</text>'
    )


def time_axis(end_s: float) -> str:
    """Return the axis of a run that lasted ``end_s`` seconds, in seconds, minutes, … days."""
    units = (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1))
    unit, length_s = next(unit for unit in units if end_s >= 3 * unit[1] or unit[1] == 1)
    marks = [mark for mark in ticks(end_s / length_s, 8) if mark * length_s <= end_s]
    labels = [(mark * length_s / (end_s or 1.0), f"{mark:g}") for mark in marks]
    return x_axis(labels, f"{unit} of the run")


def svg(title: str, inside: str, height: int = HEIGHT) -> str:
    """Return a picture with a title for those who do not see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{inside}</svg>"
    )
