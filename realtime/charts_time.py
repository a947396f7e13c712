"""Charts of what happened when: class shares, frames and drops, what each thread did.

Inline SVG like :mod:`~rtseg.realtime.charts`: no script, no library, no request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from rtseg.engines.labels import ClassTable
from rtseg.realtime.charts import (
    LEFT,
    RIGHT,
    WIDTH,
    grid,
    svg,
    ticks,
    time_axis,
    x_axis,
    x_of,
    y_of,
)
from rtseg.realtime.history import OUT, Span

TIMELINE_FRAMES = 8
"""How many frames the timeline shows."""

DROP_STYLES = 5
"""How many reasons of drops have a colour of their own; the rarer ones share the last."""

_LANE, _BAR = 30, 20
_WAY = ("capture", "infer", "engine", "collect", "render")
_NETWORK_TO_OUTPUT = ("preprocess", "infer", "refine", "render", "write")
_HUES = 6
_LEAST_SHARE = 0.002  # classes that never cover more of the picture are not drawn


def shown_classes(parts: Sequence[Counter[str]], classes: ClassTable) -> list[str]:
    """Return the classes worth drawing, those of most pixels first."""
    largest: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for part in parts:
        pixels = part.total()
        for name, count in part.items():
            largest[name] = max(largest[name], round(1e6 * count / pixels)) if pixels else 0
        total.update(part)
    known = [name for name, _ in total.most_common() if name in classes.names]
    return [name for name in known if largest[name] >= 1e6 * _LEAST_SHARE]


def class_chart(width_s: float, parts: Sequence[Counter[str]], classes: ClassTable) -> str:
    """Return the share of every class over the time of the run, as stacked areas.

    Args:
        width_s: seconds of a stretch.
        parts: pixels of every stretch by class.
        classes: names and colours.
    """
    seen = [(number, part) for number, part in enumerate(parts) if part.total()]
    if not seen:
        return svg("No class shares", "")
    end_s = width_s * len(parts)
    names = shown_classes(parts, classes)
    below = [0.0] * len(seen)
    areas = []
    for name in names:
        above = [
            low + part[name] / part.total() for low, (_, part) in zip(below, seen, strict=True)
        ]
        red, green, blue = classes.palette[classes.names.index(name)]
        outline = _steps(seen, above, width_s, end_s)
        outline += list(reversed(_steps(seen, below, width_s, end_s)))
        points = " ".join(f"{x},{y}" for x, y in outline)
        areas.append(
            f'<polygon points="{points}" fill="rgb({red},{green},{blue})">'
            f"<title>{escape(name)}</title></polygon>"
        )
        below = above
    percent = [0.0, 0.25, 0.5, 0.75, 1.0]
    return svg(
        "Class shares over the run",
        "".join(areas)
        + grid(percent, 1.0, "share of the pixels", lambda value: f"{100 * value:g} %")
        + time_axis(end_s),
    )


def _steps(
    seen: Sequence[tuple[int, Counter[str]]], values: Sequence[float], width_s: float, end_s: float
) -> list[tuple[float, float]]:
    """Return the corners of a line through the middle of every stretch, to the outer edges."""
    middles = [
        (x_of((number + 0.5) * width_s / end_s), y_of(min(1.0, value)))
        for (number, _), value in zip(seen, values, strict=True)
    ]
    first, last = x_of(seen[0][0] * width_s / end_s), x_of((seen[-1][0] + 1) * width_s / end_s)
    return [(first, middles[0][1]), *middles, (last, middles[-1][1])]


def drop_reasons(parts: Sequence[Counter[str]]) -> list[str]:
    """Return the reasons of drops, most frequent first."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return [name for name, _ in total.most_common() if name != OUT]


def frames_chart(width_s: float, parts: Sequence[Counter[str]]) -> str:
    """Return frames a second over the run: those that came out, and on them the drops by reason.

    Args:
        width_s: seconds of a stretch.
        parts: frames of every stretch by outcome.
    """
    if not parts:
        return svg("No frames", "")
    end_s = width_s * len(parts)
    reasons = drop_reasons(parts)
    most = max(part.total() for part in parts) / width_s
    rows = ticks(most)
    shapes = []
    for number, part in enumerate(parts):
        left, right = x_of(number * width_s / end_s), x_of((number + 1) * width_s / end_s)
        wide = max(0.5, right - left - (0.6 if right - left > 2 else 0.0))
        base = 0.0
        for name in [OUT, *reasons]:
            rate = part[name] / width_s
            if not rate:
                continue
            top, bottom = y_of((base + rate) / rows[-1]), y_of(base / rows[-1])
            style = "out" if name == OUT else f"drop{min(reasons.index(name), DROP_STYLES - 1)}"
            said = "came out" if name == OUT else f"dropped: {name}"
            shapes.append(
                f'<rect class="{style}" x="{left}" y="{top}" width="{wide:.1f}" '
                f'height="{bottom - top:.1f}"><title>{part[name]} frames {escape(said)}, '
                f"{number * width_s:g} to {(number + 1) * width_s:g} s</title></rect>"
            )
            base += rate
    return svg(
        "Frames a second over the run, and what was dropped",
        grid(rows, rows[-1], "frames a second") + "".join(shapes) + time_axis(end_s),
    )


def timeline_chart(spans: Sequence[Span], frames: int = TIMELINE_FRAMES) -> str:
    """Return which thread did what for a few frames, a lane for each thread.

    Args:
        spans: what was done, in the order in which it ended.
        frames: how many frames are shown.
    """
    chosen, begin_ns, end_ns = _few_frames(spans, frames)
    if not chosen:
        return svg("No timeline", "")
    length_ms = max(1e-3, (end_ns - begin_ns) / 1e6)
    lanes = _lanes(chosen)
    height = 12 + _LANE * len(lanes) + 40
    numbers = sorted({span.frame for span in chosen})
    shapes = []
    for row, (name, members) in enumerate(lanes):
        top = 12 + row * _LANE
        shapes.append(
            f'<text x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(_short(name))}</text>'
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + 24}" y2="{top + 24}"/>'
        )
        for span in members:
            shapes.append(_bar(span, begin_ns, length_ms, top, numbers.index(span.frame)))
    marks = [mark for mark in ticks(length_ms, 8) if mark <= length_ms]
    axis = x_axis(
        [(mark / length_ms, f"{mark:g}") for mark in marks], "milliseconds", bottom=height
    )
    lines = "".join(
        f'<line class="grid" x1="{x_of(mark / length_ms)}" x2="{x_of(mark / length_ms)}" '
        f'y1="8" y2="{height - 36}"/>'
        for mark in marks
    )
    title = f"What each thread did, frames {numbers[0]} to {numbers[-1]}"
    return svg(title, lines + "".join(shapes) + axis, height)


def _bar(span: Span, begin_ns: int, length_ms: float, top: int, number: int) -> str:
    left = x_of(max(0.0, (span.start_ns - begin_ns) / 1e6 / length_ms))
    right = x_of(min(1.0, (span.end_ns - begin_ns) / 1e6 / length_ms))
    wide = max(0.7, right - left)
    spent_ms = (span.end_ns - span.start_ns) / 1e6
    waits = span.name.startswith("wait")
    style = f"wait hue{number % _HUES}" if waits else f"work hue{number % _HUES}"
    text = ""
    for label in (f"{span.name} {span.frame}", span.name, str(span.frame)):
        if not waits and wide > 6.2 * len(label) + 4:
            text = (
                f'<text class="inside" x="{left + wide / 2:.1f}" y="{top + 14}" '
                f'text-anchor="middle">{escape(label)}</text>'
            )
            break
    inset = 6 if waits else 0
    return (
        f'<rect class="{style}" x="{left}" y="{top + inset}" width="{wide:.1f}" '
        f'height="{_BAR - 2 * inset}" rx="2"><title>{escape(span.name)}, frame {span.frame}: '
        f"{spent_ms:.2f} ms</title></rect>{text}"
    )


def _few_frames(spans: Sequence[Span], frames: int) -> tuple[list[Span], int, int]:
    """Return what was done while some frames in a row went from network to output, and when.

    The frames are away from the end of the run, where threads have nothing to do any more.
    """
    done = sorted({span.frame for span in spans if span.name == "write"})
    first = max(0, (len(done) - frames) * 2 // 3)
    shown = set(done[first : first + frames])
    work = [span for span in spans if span.frame in shown and span.name in _NETWORK_TO_OUTPUT]
    if not work:
        return [], 0, 0
    begin_ns = min(span.start_ns for span in work)
    end_ns = max(span.end_ns for span in work)
    meanwhile = [s for s in spans if s.end_ns > begin_ns and s.start_ns < end_ns]
    return meanwhile, begin_ns, end_ns


def _lanes(spans: Sequence[Span]) -> list[tuple[str, list[Span]]]:
    """Return lanes with their spans; a lane for each thread, more where spans overlap."""
    order = sorted(spans, key=lambda span: (_rank(span.thread), span.start_ns))
    threads = list(dict.fromkeys(span.thread for span in order))
    lanes = []
    for thread in threads:
        rows: list[list[Span]] = []
        for span in (span for span in order if span.thread == thread):
            row = next((row for row in rows if row[-1].end_ns <= span.start_ns), None)
            if row is None:
                rows.append([span])
            else:
                row.append(span)
        lanes += [(thread if number == 0 else "", row) for number, row in enumerate(rows)]
    return lanes


def _rank(thread: str) -> int:
    """Return how far down a frame's way a thread is."""
    return next((at for at, step in enumerate(_WAY) if thread.startswith(step)), len(_WAY))


def _short(name: str) -> str:
    """Return a thread's name as far as the margin has room, its end first."""
    name = name.removeprefix("sink-").rsplit("/", 1)[-1]
    return name if len(name) <= 9 else "…" + name[-7:]
