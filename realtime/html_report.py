"""The closing report as one page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from rtseg.realtime.charts import histogram_chart, latency_chart
from rtseg.realtime.charts_time import (
    DROP_STYLES,
    TIMELINE_FRAMES,
    class_chart,
    drop_reasons,
    frames_chart,
    shown_classes,
    timeline_chart,
)
from rtseg.realtime.histogram import LatencyHistogram, Summary
from rtseg.realtime.history import History
from rtseg.realtime.report import CLOCKS, RunReport
from rtseg.realtime.series import Interval

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --text: #1d232b; --soft: #5b6673; --line: #dde2e8;
  --page: #f3f5f8; --box: #fff; --mean: #0b5cad; --worst: #d97c10; --bar: #4b8fd0;
  --good: #2f9e6e; --bad: #d64550; --shade: 0 1px 3px #1d232b1a;
  --drop0: #d64550; --drop1: #e08a1e; --drop2: #b8860b; --drop3: #9b5cc0; --drop4: #7d8894;
  --hue0: #4b8fd0; --hue1: #e08a1e; --hue2: #2f9e6e; --hue3: #9b5cc0; --hue4: #c9a227;
  --hue5: #d64550; }
@media (prefers-color-scheme: dark) { :root { --text: #e6eaef; --soft: #9aa6b2; --line: #333c46;
  --page: #101419; --box: #1a2027; --mean: #6fb1f5; --worst: #e6a24a; --shade: none; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .3rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
section { background: var(--box); border-radius: .7rem; padding: 1rem 1.1rem; margin: 1rem 0;
  box-shadow: var(--shade); }
.figures { display: grid; grid-template-columns: repeat(3, 1fr); gap: .75rem; margin: 1.2rem 0; }
@media (max-width: 34rem) { .figures { grid-template-columns: repeat(2, 1fr); }
  body { padding: 1rem .6rem 2rem; } section { padding: .8rem .7rem; } }
.figures div { background: var(--box); border-radius: .7rem; padding: .7rem 1rem;
  box-shadow: var(--shade); color: var(--soft); }
.figures b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums;
  color: var(--text); }
.figures .bad b { color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.stages { width: 100%; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
tr:last-child td { border-bottom: 0; } th { color: var(--soft); font-weight: 500; }
th:first-child, td:first-child, .plain td { text-align: left; }
.plain td { white-space: normal; overflow-wrap: anywhere; }
.plain td:first-child { color: var(--soft); white-space: nowrap; }
svg { display: block; width: 100%; min-width: 34rem; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .inside { fill: #fff; font-size: 10px; pointer-events: none; }
.grid { stroke: var(--line); } .bar { fill: var(--bar); }
#classes .grid { stroke: #fff5; }
polyline { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.mean { stroke: var(--mean); } .worst { stroke: var(--worst); stroke-width: 1; }
.out { fill: var(--good); }
.drop0 { fill: var(--drop0); } .drop1 { fill: var(--drop1); } .drop2 { fill: var(--drop2); }
.drop3 { fill: var(--drop3); } .drop4 { fill: var(--drop4); }
.hue0 { --hue: var(--hue0); } .hue1 { --hue: var(--hue1); } .hue2 { --hue: var(--hue2); }
.hue3 { --hue: var(--hue3); } .hue4 { --hue: var(--hue4); } .hue5 { --hue: var(--hue5); }
.work { fill: var(--hue); } .wait { fill: var(--hue); opacity: .28; }
.keys { display: flex; flex-wrap: wrap; gap: .15rem 1rem; color: var(--soft); font-size: .9rem; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem;
  margin-right: .4rem; vertical-align: -.08rem; }
.key.line { height: .2rem; vertical-align: middle; }
"""


def html_report(
    report: RunReport,
    latency: LatencyHistogram,
    over_time: Sequence[Interval],
    history: History | None = None,
) -> str:
    """Return a run's report as a self-contained HTML page.

    Args:
        report: the run's figures.
        latency: its end-to-end latencies, in milliseconds.
        over_time: the same over the time of the run.
        history: what else happened over that time; its charts are left out without it.
    """
    title = f"rt-seg: {report.source}"
    dropped = sum(report.dropped.values())
    figures = (
        (f"{report.throughput_fps:.1f}", "frames a second"),
        (f"{report.latency.p50_ms:.1f} ms", "median latency, end to end"),
        (f"{report.latency.p95_ms:.1f} ms", "95th percentile"),
        (f"{report.network_ms:.1f} ms", "network, median"),
        (f"{report.frames_out}", "frames out"),
        (f"{dropped}", "dropped"),
    )
    tiles = "".join(f"<div><b>{value}</b>{text}</div>" for value, text in figures)
    above = latency.count - latency.at_most([latency.percentile(99)])[0]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="soft">{_engine(report)} · {_begun(report)}ended: {escape(report.end)} · \
{_length(report.elapsed_s)}</p>
<div class="figures">{tiles}</div>
<section>
<h2>Stages</h2>
<div class="wide"><table class="stages" id="stages">
<tr><th>stage</th><th>n</th><th>mean</th><th>p50</th><th>p90</th><th>p95</th><th>p99</th>\
<th>max</th></tr>
{_stages(report)}
</table></div>
<p class="soft">Milliseconds. {escape(CLOCKS)}</p>
</section>
<section>
<h2>Latency over the run</h2>
<p class="keys"><span><span class="key line" style="background:var(--mean)"></span>mean</span>
<span><span class="key line" style="background:var(--worst)"></span>maximum</span>
<span>of each of {len(over_time)} intervals of {_frames_each(over_time)}, end to end</span></p>
<div class="wide" id="latency">{latency_chart(over_time)}</div>
</section>
<section>
<h2>How many frames took how long</h2>
<div class="wide" id="histogram">{histogram_chart(latency)}</div>
<p class="soft">Up to the 99th percentile; {above} of {latency.count} frames took longer, at most \
{report.latency.max_ms:.1f} ms.</p>
</section>
{"" if history is None else _over_time(history)}
{_sources(report)}<section>
<h2>Frames</h2>
{_table("frames", _frames(report))}
</section>
{_outputs(report)}<section>
<h2>Machine</h2>
{_table("environment", _environment(report))}
</section>
</body>
</html>
"""


def _over_time(history: History) -> str:
    """Return the sections of what is kept over time."""
    width_s, frames = history.frames_over_time()
    reasons = drop_reasons(frames)
    keys = [("var(--good)", "out")]
    for number, reason in enumerate(reasons):
        keys.append((f"var(--drop{min(number, DROP_STYLES - 1)})", f"dropped: {reason}"))
    sections = [
        _section("outcomes", "Frames and drops over the run", keys, frames_chart(width_s, frames))
    ]
    width_s, pixels = history.classes_over_time()
    names, classes = shown_classes(pixels, history.classes), history.classes
    if names:
        colours = [classes.palette[classes.names.index(name)] for name in names]
        keys = [
            (f"rgb({red},{green},{blue})", name)
            for name, (red, green, blue) in zip(names, colours, strict=True)
        ]
        chart = class_chart(width_s, pixels, classes)
        sections.append(_section("classes", "What was seen", keys, chart))
    spans = history.spans()
    if any(span.name == "write" for span in spans):
        note = (
            f"Which thread did what while {TIMELINE_FRAMES} frames went through: a colour for "
            "each frame, pale while a thread waits for another. --trace writes all frames."
        )
        sections.append(_section("timeline", "Threads", [], timeline_chart(spans), note))
    return "\n".join(sections)


def _section(
    name: str, title: str, keys: Sequence[tuple[str, str]], chart: str, note: str = ""
) -> str:
    shown = "".join(
        f'<span><span class="key" style="background:{colour}"></span>{escape(text)}</span>'
        for colour, text in keys
    )
    return (
        f"<section>\n<h2>{title}</h2>\n"
        + (f'<p class="keys">{shown}</p>\n' if shown else "")
        + (f'<p class="soft">{escape(note)}</p>\n' if note else "")
        + f'<div class="wide" id="{name}">{chart}</div>\n</section>'
    )


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02}:{seconds:02}"
    return f"{days} d {clock}" if days else clock


def _frames_each(over_time: Sequence[Interval]) -> str:
    count = max((part.count for part in over_time), default=0)
    return "one frame" if count == 1 else f"{count} frames"


def _engine(report: RunReport) -> str:
    parts = (report.environment[name] for name in ("network", "input", "precision", "backend"))
    return escape(" ".join(map(str, parts)))


def _stages(report: RunReport) -> str:
    rows = [*report.stages.items(), ("end to end", report.latency)]
    return "\n".join(_stage(name, summary) for name, summary in rows)


def _stage(name: str, summary: Summary) -> str:
    values = (
        summary.mean_ms,
        summary.p50_ms,
        summary.p90_ms,
        summary.p95_ms,
        summary.p99_ms,
        summary.max_ms,
    )
    cells = (f"{value:.2f}" if summary.n else "–" for value in values)
    return (
        f"<tr><td>{escape(name)}</td><td>{summary.n}</td>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _sources(report: RunReport) -> str:
    """Return the section of several sources, one row each; nothing for one source."""
    if not report.streams:
        return ""
    names = ("source", "in", "out", "dropped", "frames/s", "p50", "p95", "p99", "max")
    head = "".join(f"<th>{name}</th>" for name in (*names, "back", "stalls", "end"))
    rows = []
    for stream in report.streams:
        latency = stream.latency
        times = (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms)
        drops = ", ".join(f"{count} {why}" for why, count in sorted(stream.dropped.items()))
        cells = (
            stream.source,
            stream.frames_in,
            stream.frames_out,
            drops or 0,
            f"{stream.throughput_fps:.1f}",
            *(f"{time_ms:.1f}" if latency.n else "–" for time_ms in times),
            stream.reconnects,
            stream.stalls,
            stream.end,
        )
        rows.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    return (
        '<section>\n<h2>Sources</h2>\n<div class="wide"><table class="stages" id="sources">\n'
        f"<tr>{head}</tr>\n" + "\n".join(rows) + "\n</table></div>\n"
        '<p class="soft">Latency in milliseconds, end to end, of each source.</p>\n</section>\n'
    )


def _outputs(report: RunReport) -> str:
    """Return the section of what outputs say of themselves; nothing where none does."""
    if not report.outputs:
        return ""
    rows = [(output.name, "; ".join(output.lines)) for output in report.outputs]
    return f"<section>\n<h2>Outputs</h2>\n{_table('outputs', rows)}\n</section>\n"


def _frames(report: RunReport) -> Iterable[tuple[str, object]]:
    yield "in", report.frames_in
    yield "out", report.frames_out
    for reason, count in sorted(report.dropped.items()):
        yield f"dropped: {reason}", count
    yield "reconnects", report.reconnects
    yield "stalls", report.stalls
    yield "warm-up runs, left out", report.warmup_runs


def _begun(report: RunReport) -> str:
    return f"begun: {escape(report.begun_at)} · " if report.begun_at else ""


def _environment(report: RunReport) -> Iterable[tuple[str, object]]:
    for name, value in report.environment.items():
        if value in (None, ""):
            continue
        if isinstance(value, dict):
            yield name, ", ".join(f"{key} {found}" for key, found in value.items())
        else:
            yield name.replace("_", " "), value
    yield "CPU time", f"{report.cpu_ms_per_frame:.1f} ms a frame"
    yield "cores busy", f"{report.cores_busy:.2f}"
    yield "memory", f"{report.peak_memory_mib:.0f} MiB at most"


def _table(name: str, rows: Iterable[tuple[str, object]]) -> str:
    body = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(str(value))}</td></tr>" for key, value in rows
    )
    return f'<table class="plain" id="{name}">{body}</table>'
