"""One run of ``rt-seg``: puts source, engine, painter and outputs together, and reports."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rtseg.engines.engine import Engine
from rtseg.realtime.asked import (
    check_measure_options,
    files_read,
    flow_options,
    metrics_server,
    open_sinks,
    open_trace,
    refuse_output_clashes,
    sink_options,
    sink_texts,
    source_options,
    switchable_views,
    view_options,
)
from rtseg.realtime.controls import Controls
from rtseg.realtime.ending import reason_and_text
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.hud import HudText
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.palette import load_palette
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.profile import END_OF_INPUT, MAX_FRAMES_REACHED, Profiler
from rtseg.realtime.progress import ProgressLine
from rtseg.realtime.refiners import build_refiner, check_refine_options, remind_of_sound
from rtseg.realtime.report import RunReport, build_report, missed_lines, write_report
from rtseg.realtime.service import Service
from rtseg.realtime.signals import Signals
from rtseg.realtime.sinks.resolve import (
    parse_sink,
)
from rtseg.realtime.sinks.sink import Sink
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.several import NamedSource
from rtseg.realtime.web.options import WebOptions, web_token

if TYPE_CHECKING:
    from rtseg.engines.labels import ClassTable
    from rtseg.realtime.history import History
    from rtseg.realtime.sources.source import Source

_log = logging.getLogger("rtseg.realtime")

HUD_S = 0.25
"""How often the HUD's figures change."""


class EngineGiver(Protocol):
    """Where a session has its engine from."""

    def take(self, info: SourceInfo) -> contextlib.AbstractContextManager[Engine]:
        """Return an open engine for a source, as a block that ends with the session."""


def run_session(
    options: argparse.Namespace,
    sources: Sequence[NamedSource],
    early: EngineGiver,
    others: Sequence[NamedSource] = (),
) -> int:
    """Run what the arguments ask for and return the exit code.

    Args:
        options: as :mod:`rtseg.realtime.arguments` gives them; logging is set up.
        sources: what they name, at least one.
        early: gives the engine of a single source.
        others: what other sessions of the same run read, which this one must not write over.

    Raises:
        RealtimeError: the source or an output failed, or an option makes no sense.
        EngineError: the engine failed.
    """
    with Signals() as signals:
        # What cannot be meant comes before anything else.
        if len(sources) > 1:
            from rtseg.realtime.several import run_several

            return run_several(options, sources, signals)
        typed = sources[0].text
        flow = flow_options(options)
        check_measure_options(options)
        check_refine_options(options)
        texts = sink_texts(options, sources)
        profiler = Profiler()
        outputs: list[Sink] = []
        unopened = open_source(typed, source_options(options, sources[0].own))
        with (
            metrics_server(options, {sources[0].name: profiler}, outputs),
            Service({sources[0].name: profiler}, lambda: signals.code is not None) as service,
            unopened as source,
            _take(early, source.info, texts) as engine,
        ):
            view = view_options(options, engine, texts)
            controls = Controls(view, switchable_views(view, texts))
            service.paused = lambda: controls.paused
            classes = load_palette(options.palette, engine.spec.classes)
            profiler.history = history_for(options, classes)
            renderer = Renderer(classes, view, controls)
            web = WebOptions(
                token=web_token(options.web_token),
                profiler=profiler,
                classes=classes,
                hud=lambda: renderer.hud_text,
            )
            read = [*sources, *others]
            refuse_output_clashes(options, texts, read)
            wanted = sink_options(options, texts, controls, web, files_read(read))
            sinks = open_sinks(options, texts, wanted)
            outputs += sinks
            remind_of_sound(options, (stream.type for stream in source.info.passthrough))
            pipeline = Pipeline(
                source,
                engine,
                renderer,
                sinks,
                flow=flow,
                controls=controls,
                profiler=profiler,
                refiner=build_refiner(options, engine.spec.classes),
            )
            signals.pipeline = pipeline
            with contextlib.closing(open_trace(options)) as profiler.trace:
                run = _Run(options, source, engine, renderer, controls, pipeline, signals, sinks)
                return run.run()


def _take(
    early: EngineGiver, info: SourceInfo, texts: Sequence[str]
) -> contextlib.AbstractContextManager[Engine]:
    """Return the engine, as a block; meanwhile get ready what the first picture needs."""
    if any(parse_sink(text).kind != "null" for text in texts):
        import cv2  # noqa: F401  a tenth of a second, which the renderer would wait for
    return early.take(info)


class _Run:
    """The part of a session in which frames flow."""

    def __init__(
        self,
        options: argparse.Namespace,
        source: Source,
        engine: Engine,
        renderer: Renderer,
        controls: Controls,
        pipeline: Pipeline,
        signals: Signals,
        sinks: Sequence[Sink],
    ) -> None:
        self._options = options
        self._sinks = sinks
        self._source = source
        self._engine = engine
        self._profile = engine.profile()
        self._renderer = renderer
        self._controls = controls
        self._pipeline = pipeline
        self._signals = signals
        self._hud_due_s = 0.0

    def run(self) -> int:
        end = END_OF_INPUT
        try:
            with self._progress() as progress:

                def while_running() -> None:
                    self._refresh_hud()
                    self._note_end()
                    if progress is not None:
                        progress.update()

                self._pipeline.run(while_running)
            end = self._end()
        except BaseException as error:
            end = end_of(error)
            raise
        finally:
            self._close(end)
        return self._signals.code or 0

    def _end(self) -> str:
        """Return why no more frames come."""
        profiler, failure = self._pipeline.profiler, self._pipeline.failure
        if failure is not None:
            return end_of(failure)
        if self._signals.code is not None:
            return "interrupted"
        if self._controls.quit:
            return "quit"
        if profiler.frames_out + profiler.under_way == self._options.max_frames:
            return MAX_FRAMES_REACHED
        return END_OF_INPUT

    def _note_end(self) -> None:
        """Tell the page and the probes that the source has ended; outputs may take a while."""
        profiler = self._pipeline.profiler
        if profiler.ended is None and self._pipeline.over:
            profiler.ended = self._end()

    def _progress(self) -> contextlib.AbstractContextManager[ProgressLine | None]:
        if not wants_progress(self._options):
            return contextlib.nullcontext()
        return ProgressLine(
            self._source.info,
            self._pipeline.profiler,
            total=self._expected_frames(),
            force=bool(self._options.progress),
        )

    def _expected_frames(self) -> int | None:
        """Return how many frames the run will write, as far as it can be told."""
        info, options = self._source.info, self._options
        frames = info.frames
        if frames is not None:
            frames = -(-frames // options.stride)
            if options.max_fps and info.fps:
                frames = int(frames * min(1.0, options.max_fps / float(info.fps)))
        if options.max_frames is not None:
            frames = min(frames, options.max_frames) if frames else options.max_frames
        return frames

    def _refresh_hud(self) -> None:
        now_s = time.monotonic()
        if now_s < self._hud_due_s:
            return
        self._hud_due_s = now_s + HUD_S
        self._renderer.hud_text = hud_text(
            self._pipeline.profiler, self._engine.spec.network, self._profile.precision
        )

    def _close(self, end: str) -> None:
        report = build_report(
            self._pipeline.profiler,
            self._profile,
            self._engine.spec,
            self._source.info,
            end=end,
            in_flight=self._pipeline.in_flight_limit,
            outputs=[said for sink in self._sinks if (said := sink.summary()) is not None],
        )
        finish_report(self._options, report, self._pipeline.profiler)


def end_of(error: BaseException) -> str:
    """Return how a report calls the end of a run that an error ended."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return reason_and_text(error)[0] if isinstance(error, Exception) else "INTERNAL"


def wants_progress(options: argparse.Namespace) -> bool:
    """Return whether a progress line is to be drawn."""
    if options.progress is None:
        return sys.stderr.isatty() and not options.quiet
    return bool(options.progress)


def hud_text(profiler: Profiler, network: str, precision: str) -> HudText:
    """Return what the HUD of a stream says now."""
    p50_ms, p95_ms = profiler.live_latency_ms()
    return HudText.of(
        fps=profiler.live_fps(),
        latency_p50_ms=p50_ms,
        latency_p95_ms=p95_ms,
        dropped=sum(profiler.dropped.values()),
        engine=network,
        precision=precision,
    )


def finish_report(options: argparse.Namespace, report: RunReport, profiler: Profiler) -> None:
    """Say what the run did, and write ``--profile``.

    Raises:
        SinkError: the file cannot be written.
    """
    _say(options, report)
    if options.profile:
        path = Path(options.profile)
        write_report(_page(report, profiler) if _is_html(path) else report.to_json(), path)


def history_for(options: argparse.Namespace, classes: ClassTable) -> History | None:
    """Return what the HTML report's charts over time are made of, or None without that report."""
    from rtseg.realtime.history import History

    wanted = options.profile and _is_html(Path(options.profile))
    return History(classes) if wanted else None


def _page(report: RunReport, profiler: Profiler) -> str:
    from rtseg.realtime.html_report import html_report

    return html_report(
        report, profiler.latency_histogram(), profiler.latency_over_time(), profiler.history
    )


def _say(options: argparse.Namespace, report: RunReport) -> None:
    asked = options.profile is not None and not options.profile
    if report.frames_out and (asked or not options.quiet):
        if options.log_format == "json":
            import json

            fields = json.loads(report.to_json())
            fields.pop("recent")
            print(json.dumps({"level": "info", "report": fields}), file=sys.stderr)
        else:
            print(report.to_text(), file=sys.stderr)
    dropped = sum(report.dropped.values())
    if dropped and not options.quiet:
        _log.info("%d of %d frames were dropped", dropped, report.frames_in)
    if not options.quiet:
        for line in missed_lines(report.missed):
            _log.warning("left out of %s", line)


def _is_html(path: Path) -> bool:
    return path.suffix.lower() == ".html"
