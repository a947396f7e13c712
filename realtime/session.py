"""One run of ``rt-seg``: puts source, engine, painter and outputs together, and reports."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.realtime.controls import Controls
from rtseg.realtime.early import EarlyEngine
from rtseg.realtime.environment import cpu_seconds
from rtseg.realtime.errors import RealtimeError, UsageError
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.hud import HudText
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.palette import load_palette, select_classes
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.profile import Profiler
from rtseg.realtime.progress import ProgressLine
from rtseg.realtime.refiners import build_refiner, check_refine_options, remind_of_sound
from rtseg.realtime.report import RunReport, build_report, write_report
from rtseg.realtime.service import Service
from rtseg.realtime.sinks.encode import EncodeOptions, parse_bitrate
from rtseg.realtime.sinks.resolve import (
    SinkOptions,
    open_jsonl_sink,
    open_label_sink,
    open_sink,
    parse_sink,
    refuse_clashes,
    takes_sound,
)
from rtseg.realtime.sinks.segments import segment_options
from rtseg.realtime.sinks.sink import Sink
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.several import NamedSource
from rtseg.realtime.throttle import FlowOptions
from rtseg.realtime.trace import Trace, TraceFile
from rtseg.realtime.view import VIEWS, View, ViewOptions
from rtseg.realtime.web.address import is_web
from rtseg.realtime.web.options import WebOptions, web_token

if TYPE_CHECKING:
    from rtseg.engines.labels import ClassTable
    from rtseg.realtime.history import History
    from rtseg.realtime.sources.source import Source

_log = logging.getLogger("rtseg.realtime")

HUD_S = 0.25
"""How often the HUD's figures change."""

_SIGNAL_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def run_session(
    options: argparse.Namespace, sources: Sequence[NamedSource], early: EarlyEngine
) -> int:
    """Run what the arguments ask for and return the exit code.

    Args:
        options: as :mod:`rtseg.realtime.arguments` gives them; logging is set up.
        sources: what they name, at least one.
        early: gives the engine of a single source.

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
        texts = sink_texts(options)
        profiler = Profiler()
        outputs: list[Sink] = []
        unopened = open_source(typed, source_options(options))
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
            refuse_output_clashes(options, texts, sources)
            wanted = sink_options(options, texts, controls, web)
            sinks = _open_sinks(options, texts, wanted)
            outputs += sinks
            remind_of_sound(options, source.info)
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
            with contextlib.closing(open_trace(options)) as profiler.trace:
                signals.pipeline = pipeline
                run = _Run(options, source, engine, renderer, controls, pipeline, signals, sinks)
                return run.run()


def _take(early: EarlyEngine, info: SourceInfo, texts: Sequence[str]) -> Engine:
    """Return the engine; meanwhile get ready what the first picture needs."""
    if any(parse_sink(text).kind != "null" for text in texts):
        import cv2  # noqa: F401  a tenth of a second, which the renderer would wait for
    return early.take(info)


class Stoppable(Protocol):
    """What a signal ends in order."""

    def stop(self) -> None:
        """Ask to end; safe in a signal handler."""


class Signals:
    """Turns SIGINT and SIGTERM into an orderly end; a second one forces."""

    def __init__(self) -> None:
        self.pipeline: Stoppable | None = None
        self.code: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):  # not in the main thread: no signals to mind
            for number in _SIGNAL_CODES:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        code = _SIGNAL_CODES[signal.Signals(number)]
        if self.code is not None:
            os._exit(code)
        self.code = code
        if self.pipeline is None:  # nothing was written yet
            raise SystemExit(code)
        self.pipeline.stop()


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
        cpu_before_s = cpu_seconds()
        end = "end of input"
        try:
            with self._progress() as progress:

                def while_running() -> None:
                    self._refresh_hud()
                    if progress is not None:
                        progress.update()

                self._pipeline.run(while_running)
            if self._signals.code is not None:
                end = "interrupted"
            elif self._controls.quit:
                end = "quit"
            elif self._pipeline.profiler.frames_out == self._options.max_frames:
                end = "--max-frames reached"
        except (RealtimeError, EngineError) as error:
            end = error.reason
            raise
        finally:
            self._close(end, cpu_seconds() - cpu_before_s)
        return self._signals.code or 0

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

    def _close(self, end: str, cpu_s: float) -> None:
        report = build_report(
            self._pipeline.profiler,
            self._profile,
            self._engine.spec,
            self._source.info,
            end=end,
            cpu_s=cpu_s,
            in_flight=self._pipeline.in_flight_limit,
            outputs=[said for sink in self._sinks if (said := sink.summary()) is not None],
        )
        finish_report(self._options, report, self._pipeline.profiler)


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


def check_measure_options(options: argparse.Namespace) -> None:
    """Refuse names that are surely a slip: these files are replaced without asking.

    Raises:
        UsageError: another suffix than allowed.
    """
    allowed = {"profile": (".json", ".html"), "trace": (".json",)}
    for option, suffixes in allowed.items():
        path = getattr(options, option)
        if path and Path(path).suffix.lower() not in suffixes:
            names = " or ".join(f"FILE{suffix}" for suffix in suffixes)
            raise UsageError(f"--{option} writes {names}. Received: {path!r}")


def _is_html(path: Path) -> bool:
    return path.suffix.lower() == ".html"


def metrics_server(
    options: argparse.Namespace, profilers: Mapping[str, Profiler], outputs: Sequence[Sink]
) -> contextlib.AbstractContextManager[object]:
    """Return the server of ``--metrics-port``, or nothing to enter; ``outputs`` may grow."""
    if options.metrics_port is None:
        return contextlib.nullcontext()
    from rtseg.realtime.metrics import MetricsServer

    return MetricsServer(options.metrics_port, profilers, stale_s=options.timeout, outputs=outputs)


def open_trace(options: argparse.Namespace) -> Trace:
    """Return the trace of ``--trace``, or one that forgets."""
    return TraceFile(Path(options.trace)) if options.trace else Trace()


def source_options(options: argparse.Namespace) -> SourceOptions:
    """Return what the user asked of sources."""
    return SourceOptions(
        start_s=options.start,
        duration_s=options.duration,
        loop=options.loop,
        width=options.width,
        height=options.height,
        fps=options.fps,
        rtsp_transport=options.rtsp_transport,
        timeout_s=options.timeout,
        reconnect=options.reconnect,
        hwaccel=options.hwaccel,
        live_sound=not options.no_audio and any(map(takes_sound, options.out)),
    )


def flow_options(options: argparse.Namespace) -> FlowOptions:
    """Return how frames are to flow."""
    return FlowOptions(
        drop_policy=options.drop_policy,
        buffer=options.buffer,
        max_fps=options.max_fps,
        stride=options.stride,
        max_frames=options.max_frames,
        warmup=options.warmup,
    )


def open_engine(options: argparse.Namespace, info: SourceInfo) -> Engine:
    """Return the engine asked for, or the best for a source."""
    from rtseg.realtime.quality import open_asked

    return open_asked(options, info)


def view_options(options: argparse.Namespace, engine: Engine, sinks: Sequence[str]) -> ViewOptions:
    """Return how pictures are to look."""
    classes = engine.spec.classes
    return ViewOptions(
        view=options.view,
        alpha=options.alpha,
        classes=None if options.classes is None else select_classes(options.classes, classes),
        ignore_classes=()
        if options.ignore_class is None
        else select_classes(options.ignore_class, classes),
        legend=options.legend,
        hud="window" in sinks if options.hud is None else options.hud,
    )


def switchable_views(view: ViewOptions, sinks: Sequence[str]) -> tuple[View, ...]:
    """Return the views a key may switch to: pictures in a file cannot change their size."""
    if all(text == "window" or is_web(text) for text in sinks):
        return VIEWS
    return tuple(v for v in VIEWS if (v == "side-by-side") == (view.view == "side-by-side"))


def sink_texts(options: argparse.Namespace) -> list[str]:
    """Return the outputs for pictures; a window when nothing was asked for.

    Raises:
        UsageError: nothing was asked for and there is no display.
    """
    texts = list(options.out)
    for text in texts:
        parse_sink(text)  # errors of form come before anything is opened
    if options.headless and "window" in texts:
        raise UsageError("--headless and --out window exclude each other. Allowed: one of them")
    if texts or options.labels_out or options.jsonl:
        return texts
    if options.profile is not None:
        return ["null"]
    from rtseg.realtime.sinks.display import has_display

    if options.headless or not has_display():
        raise UsageError(
            "there is no display for a window: name an output, such as --out seg.mp4, "
            "--labels-out ids/ or --out null",
            reason="NO_DISPLAY",
        )
    return ["window"]


def sink_options(
    options: argparse.Namespace, texts: Sequence[str], controls: Controls, web: WebOptions
) -> SinkOptions:
    """Return what the user says about all outputs."""
    encode = EncodeOptions(
        codec=options.codec or EncodeOptions.codec,
        crf=options.crf,
        bitrate_bps=None if options.bitrate is None else parse_bitrate(options.bitrate),
        audio=not options.no_audio,
    )
    return SinkOptions(
        encode=encode,
        overwrite=options.overwrite,
        label_ids="cityscapes" if options.label_ids == "cityscapes" else "trainids",
        controls=controls,
        web=web,
        segment=segment_options(options.segment, options.segment_files, texts),
    )


def refuse_output_clashes(
    options: argparse.Namespace, texts: Sequence[str], sources: Sequence[NamedSource]
) -> None:
    """Refuse two outputs into one place, and an output over an input."""
    files = (options.labels_out, options.jsonl, options.profile, options.trace)
    inputs = [each.spec.target for each in sources if each.spec.kind in ("file", "images")]
    refuse_clashes([*texts, *filter(None, files)], inputs)


def _open_sinks(
    options: argparse.Namespace, texts: Sequence[str], wanted: SinkOptions
) -> list[Sink]:
    """Return every output that was asked for; files that exist are refused here."""
    sinks = [open_sink(text, wanted) for text in texts]
    if options.labels_out:
        sinks.append(open_label_sink(options.labels_out, wanted))
    if options.jsonl:
        sinks.append(open_jsonl_sink(options.jsonl, wanted))
    return sinks
