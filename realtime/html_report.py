"""The closing report as one page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from rtseg.realtime.charts import histogram_chart, latency_chart
from rtseg.realtime.profile import LatencyHistogram, Summary
from rtseg.realtime.report import CLOCKS, RunReport
from rtseg.realtime.series import Interval

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --text: #1d232b; --soft: #5b6673; --line: #dde2e8;
  --page: #fff; --box: #f5f7f9; --mean: #0b5cad; --worst: #e08a1e; --bar: #4b8fd0; }
@media (prefers-color-scheme: dark) { :root { --text: #e6eaef; --soft: #9aa6b2; --line: #333c46;
  --page: #14181d; --box: #1d232a; --mean: #6fb1f5; --worst: #e6a24a; --bar: #4b8fd0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(3, 1fr); gap: .75rem; margin: 1.2rem 0; }
@media (max-width: 30rem) { .figures { grid-template-columns: repeat(2, 1fr); } }
.figures div { background: var(--box); border-radius: .5rem; padding: .6rem 1rem; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.stages { width: 100%; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child, .plain td { text-align: left; }
.plain td { white-space: normal; overflow-wrap: anywhere; }
svg { display: block; width: 100%; min-width: 34rem; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); } .bar { fill: var(--bar); }
polyline { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.mean { stroke: var(--mean); } .worst { stroke: var(--worst); stroke-width: 1; }
.key { display: inline-block; width: .8rem; height: .2rem; vertical-align: middle; }
"""


def html_report(report: RunReport, latency: LatencyHistogram, over_time: Sequence[Interval]) -> str:
    """Return a run's report as a self-contained HTML page.

    Args:
        report: the run's figures.
        latency: its end-to-end latencies, in milliseconds.
        over_time: the same over the time of the run.
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
<p class="soft">{_engine(report)} · ended: {escape(report.end)} · {report.elapsed_s:.1f} s</p>
<div class="figures">{tiles}</div>
<h2>Stages</h2>
<div class="wide"><table class="stages" id="stages">
<tr><th>stage</th><th>n</th><th>mean</th><th>p50</th><th>p90</th><th>p95</th><th>p99</th>\
<th>max</th></tr>
{_stages(report)}
</table></div>
<p class="soft">Milliseconds. {escape(CLOCKS)}</p>
<h2>Latency over the run</h2>
<p class="soft"><span class="key" style="background:var(--mean)"></span> mean
<span class="key" style="background:var(--worst)"></span> maximum
of each of {len(over_time)} intervals of {_frames_each(over_time)}, end to end</p>
<div class="wide" id="latency">{latency_chart(over_time)}</div>
<h2>How many frames took how long</h2>
<div class="wide" id="histogram">{histogram_chart(latency)}</div>
<p class="soft">Up to the 99th percentile; {above} frames took longer, at most \
{report.latency.max_ms:.1f} ms.</p>
<h2>Frames</h2>
{_table("frames", _frames(report))}
<h2>Machine</h2>
{_table("environment", _environment(report))}
</body>
</html>
"""


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


def _frames(report: RunReport) -> Iterable[tuple[str, object]]:
    yield "in", report.frames_in
    yield "out", report.frames_out
    for reason, count in sorted(report.dropped.items()):
        yield f"dropped: {reason}", count
    yield "reconnects", report.reconnects
    yield "stalls", report.stalls
    yield "warm-up runs, left out", report.warmup_runs


def _environment(report: RunReport) -> Iterable[tuple[str, object]]:
    for name, value in report.environment.items():
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
