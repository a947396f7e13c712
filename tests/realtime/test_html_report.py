"""The report as a page: complete, well-formed, self-contained, and a browser shows it."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.labels import ClassTable
from rtseg.realtime.charts import HEIGHT, WIDTH, histogram_chart, latency_chart, ticks
from rtseg.realtime.cli import main
from rtseg.realtime.history import History, Span
from rtseg.realtime.html_report import html_report
from rtseg.realtime.profile import STAGES, LatencyHistogram, Profiler
from rtseg.realtime.report import RunReport, build_report
from rtseg.realtime.series import BoundedSeries
from tests.media import make_video
from tests.realtime.parts import BrightnessEngine, GraySource

VOID = {"meta", "br"}
CHROMIUM = shutil.which("chromium")


class Page(HTMLParser):
    """Checks that tags nest, and keeps tables and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._table: list[list[str]] | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(str(dict(attrs)["id"]), [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._table[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            self._table = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th") and self._table is not None:
            self._table[-1][-1] += data


def assert_self_contained(text: str) -> None:
    page = Page(text)
    for tag, name, value in page.attributes:
        assert tag not in ("script", "link", "img", "iframe", "object")
        assert name not in ("src", "href", "xlink:href", "srcset", "action")
        assert not name.startswith("on")
        assert "url(" not in value
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def report_of(profiler: Profiler, end: str = "end of input") -> RunReport:
    engine = BrightnessEngine()
    source = GraySource(1).info
    return build_report(profiler, engine.profile(), engine.spec, source, end=end, in_flight=2)


def test_a_real_run(tmp_path: Path) -> None:
    clip, page = make_video(tmp_path / "drive.mp4", frames=30), tmp_path / "report.html"
    words = ["--source", clip, "--out", "null", "--stride", "2", "--profile", page, "-q"]
    assert main([str(word) for word in words]) == 0
    text = page.read_text(encoding="utf-8")
    assert_self_contained(text)
    tables = Page(text).tables
    stages = {row[0]: row for row in tables["stages"]}
    assert list(stages) == ["stage", *STAGES, "end to end"]
    assert stages["infer"][1] == stages["end to end"][1] == "15"
    percentiles = [float(cell) for cell in stages["infer"][3:]]
    assert percentiles == sorted(percentiles)
    assert stages["upload"][2:] == ["–"] * 6
    frames = dict(map(tuple, tables["frames"]))
    assert (frames["in"], frames["out"], frames["dropped: stride"]) == ("30", "15", "15")
    assert dict(map(tuple, tables["environment"]))["network"] == "espnet-lite"
    assert text.count("<svg") == 5
    for name in ("latency", "histogram", "outcomes", "classes", "timeline"):
        assert f'id="{name}"' in text
    assert "dropped: stride" in text


def test_several_sources_have_a_row_each(tmp_path: Path) -> None:
    clips = [
        make_video(tmp_path / f"{name}.mp4", frames=9 + number)
        for number, name in ((0, "left"), (3, "right"))
    ]
    page = tmp_path / "report.html"
    words = [word for clip in clips for word in ("--source", clip)]
    words += ["--out", "null", "--profile", page, "-q"]
    assert main([str(word) for word in words]) == 0
    text = page.read_text(encoding="utf-8")
    assert_self_contained(text)
    head, *rows = Page(text).tables["sources"]
    assert [row[:4] for row in rows] == [["left", "9", "9", "0"], ["right", "12", "12", "0"]]
    for row in rows:
        times = [float(cell) for cell in row[head.index("p50") : head.index("max") + 1]]
        assert times == sorted(times)
        assert times[0] > 0
        assert row[-1] == "end of input"


def test_outputs_say_what_they_did(tmp_path: Path) -> None:
    clip, page = make_video(tmp_path / "drive.mp4", frames=30), tmp_path / "report.html"
    out = tmp_path / "seg.mp4"
    words = ["--source", clip, "--out", out, "--segment", "1", "--profile", page, "-q"]
    assert main([str(word) for word in words]) == 0
    tables = Page(page.read_text(encoding="utf-8")).tables
    assert "sources" not in tables
    ((name, said),) = tables["outputs"]
    assert "seg" in name
    assert "seg_000.mp4" in said


def test_a_report_without_a_history_has_the_other_charts() -> None:
    text = html_report(report_of(Profiler()), LatencyHistogram(), [])
    assert_self_contained(text)
    assert text.count("<svg") == 2


def test_what_a_source_is_called_is_no_markup() -> None:
    report = report_of(Profiler(), end="<script>alert(1)</script>")
    history = History(ClassTable(("<b>", "x"), ((0, 0, 0), (9, 9, 9))))
    history.labels(0.0, np.zeros((8, 8), np.uint8))
    history.frame(0.0, "<i>")
    history.span(Span("sink-<u>", "write", 0, 10, 0))
    text = html_report(report, LatencyHistogram(), [], history)
    assert_self_contained(text)
    for markup in ("<b>", "<i>", "<u>"):
        assert markup in Page(text).text
    assert "<script>alert(1)</script>" in Page(text).text


def bars_of(svg: str) -> list[int]:
    root = ElementTree.fromstring(svg)
    titles = [title.text or "" for title in root.iter("title")]
    return [int(title.split()[0]) for title in titles]


@given(st.lists(st.floats(0.0, 1e6), max_size=60))
def test_every_frame_up_to_the_99th_percentile_is_in_a_bar(values: list[float]) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    bars = bars_of(histogram_chart(histogram))
    assert sum(bars) == (histogram.at_most([histogram.percentile(99)])[0] if values else 0)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1e6)), max_size=80))
def test_charts_stay_inside_their_frame(steps: list[tuple[float, float]]) -> None:
    series, time_s = BoundedSeries(20), 0.0
    for step_s, value in steps:
        time_s += step_s
        series.add(time_s, value)
    root = ElementTree.fromstring(latency_chart(series.intervals()))
    for line in root.iter("polyline"):
        for point in (line.get("points") or "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


@given(st.floats(1e-6, 1e9))
def test_ticks_are_round_and_cover(largest: float) -> None:
    values = ticks(largest)
    assert values[0] == 0
    assert values[-1] >= largest * 0.999
    assert 3 <= len(values) <= 7
    step = values[1]
    digits = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(digits - allowed) for allowed in (1, 2, 2.5, 5)) < 1e-6


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=500), st.sampled_from([2, 4, 10]))
def test_a_series_is_bounded_and_loses_no_sum_and_no_maximum(
    values: list[float], capacity: int
) -> None:
    series = BoundedSeries(capacity)
    for number, value in enumerate(values):
        series.add(float(number), value)
    parts = series.intervals()
    assert len(parts) <= capacity
    assert sum(part.count for part in parts) == len(values)
    assert max(part.largest for part in parts) == max(values)
    assert sum(part.total for part in parts) == pytest.approx(sum(values))
    counts = np.cumsum([0, *(part.count for part in parts)])
    assert [part.start_s for part in parts] == [float(count) for count in counts[:-1]]


@pytest.mark.parametrize("capacity", [0, 1, 3])
def test_a_series_needs_an_even_capacity(capacity: int) -> None:
    with pytest.raises(ValueError, match="Received"):
        BoundedSeries(capacity)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_draws_it(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    clip, page = make_video(tmp_path / "drive.mp4", frames=60), tmp_path / "report.html"
    words = ["--source", clip, "--out", "null", "--profile", page, "-q"]
    assert main([str(word) for word in words]) == 0
    shot = tmp_path / "page.png"
    subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--no-first-run"),
            *(f"--screenshot={shot}", "--window-size=900,1400", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    import cv2

    picture = cv2.imread(str(shot))
    assert picture is not None
    assert picture.shape[:2] == (1400, 900)
    blue, _, red = (picture[..., channel].astype(int) for channel in range(3))
    assert ((blue - red) > 80).sum() > 2000  # the bars of the histogram
