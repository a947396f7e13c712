"""One run of ``rt-seg`` over several sources: one engine, an end and a report for each."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rtseg.engines.engine import Engine
from rtseg.realtime import asked, session
from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import RealtimeError, UsageError
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.grid import FileGrid, Grid, LiveGrid
from rtseg.realtime.loop import SharedLoop
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.palette import load_palette
from rtseg.realtime.profile import END_OF_INPUT, MAX_FRAMES_REACHED, Profiler
from rtseg.realtime.progress import ProgressLine
from rtseg.realtime.refiners import build_refiner, check_refine_options, remind_of_sound
from rtseg.realtime.report import RunReport, StreamReport, build_report
from rtseg.realtime.service import Service
from rtseg.realtime.signals import Signals
from rtseg.realtime.sinks.jsonl import JsonlFile, JsonlSink
from rtseg.realtime.sinks.resolve import (
    SinkOptions,
    open_label_sink,
    open_sink,
    parse_sink,
    takes_sound,
)
from rtseg.realtime.sinks.sink import Sink
from rtseg.realtime.sinks.source_pictures import SourcePicturesSink
from rtseg.realtime.sources.lavfi import is_live
from rtseg.realtime.sources.pipe import is_pipe
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.several import NamedSource
from rtseg.realtime.stream import Stream
from rtseg.realtime.web.options import WebOptions, web_token
from rtseg.realtime.web.state import StreamHealth, health_of

_log = logging.getLogger("rtseg.realtime")


def run_several(
    options: argparse.Namespace, sources: Sequence[NamedSource], signals: Signals
) -> int:
    """Run several sources through one engine and return the exit code.

    Raises:
        RealtimeError: a source or an output failed (the others were finished), or an option
            makes no sense.
        EngineError: the engine failed.
    """
    flow = asked.flow_options(options)
    asked.check_measure_options(options)
    check_refine_options(options)
    shared, own = split_outputs(asked.sink_texts(options, sources), options.layout)
    remind_of_sound(options, ["audio"] if any(map(takes_sound, own)) else [])
    if options.labels_out and Path(options.labels_out).suffix:
        raise UsageError(
            "--labels-out of several sources is a directory. "
            f"Received: {options.labels_out!r} for {len(sources)} sources"
        )
    if options.record and parse_sink(options.record).kind != "directory":
        raise UsageError(
            "--record of several sources is a directory. "
            f"Received: {options.record!r} for {len(sources)} sources"
        )
    if options.keyframes is not None and options.keyframes > 1:
        raise UsageError(
            "--keyframes follows the motion from one frame to the next, which are here of "
            f"different sources. Allowed: with one source. Received: {len(sources)} sources"
        )
    total = Profiler()
    total.warmup_runs = flow.warmup
    profilers = {source.name: Profiler(total=total) for source in sources}
    with contextlib.ExitStack() as stack:
        outputs: list[Sink] = []
        stack.enter_context(asked.metrics_server(options, profilers, outputs))
        service = stack.enter_context(Service(profilers, lambda: signals.code is not None))
        engine = stack.enter_context(asked.open_engine(options, _together(sources)))
        view = asked.view_options(options, engine, shared)
        controls = Controls(view, asked.switchable_views(view, [*shared, *own]))
        service.paused = lambda: controls.paused
        classes = load_palette(options.palette, engine.spec.classes)
        total.history = session.history_for(options, classes)
        health = _Health(profilers, controls)
        token = web_token(options.web_token)
        web = WebOptions(token=token, profiler=total, classes=classes, streams=health)
        texts = [*shared, *own]
        asked.refuse_output_clashes(options, texts, sources)
        wanted = asked.sink_options(options, texts, controls, web, asked.files_read(sources))
        trace = stack.enter_context(contextlib.closing(asked.open_trace(options)))
        lines = None
        if options.jsonl:
            lines = JsonlFile(options.jsonl, overwrite=options.overwrite)
            stack.callback(lines.close)
        together = [open_sink(text, wanted) for text in shared]
        outputs += together
        grid = _grid(sources, together, engine, pipes_live=options.live)
        renderers, streams = [], []
        for number, source in enumerate(sources):
            profiler = profilers[source.name]
            profiler.trace = trace.of(source.name)
            sinks = _own_sinks(options, source, own, wanted, lines)
            outputs += sinks
            if grid is not None:
                sinks.append(grid.tiles[number])
            renderers.append(Renderer(classes, view, controls))
            streams.append(
                Stream(
                    open_source(
                        source.text, asked.source_options(options, source.own), patient=True
                    ),
                    renderers[-1],
                    sinks,
                    flow=flow,
                    controls=controls,
                    profiler=profiler,
                    name=source.name,
                    refiner=build_refiner(options, engine.spec.classes),
                )
            )
        health.streams = streams
        loop = SharedLoop(streams, engine, controls=controls, warmup=flow.warmup)
        signals.pipeline = loop
        if grid is not None:
            grid.stop_asked = lambda: signals.code is not None or controls.quit
            grid.paused = lambda: controls.paused
        run = _Run(options, loop, grid, total, renderers, engine, controls, signals)
        return run.run()


def split_outputs(texts: Sequence[str], layout: str | None) -> tuple[list[str], list[str]]:
    """Return the outputs that get all sources in one picture, and those for each source.

    Args:
        texts: the outputs, as typed.
        layout: ``grid``, ``separate`` or None: separate for directories and ``null``.

    Raises:
        UsageError: ``separate`` with an output that can hold only one video.
    """
    kinds = {text: parse_sink(text).kind for text in texts}
    if layout == "grid":
        return list(texts), []
    own = [text for text in texts if kinds[text] in ("directory", "null")]
    shared = [text for text in texts if text not in own]
    if layout == "separate" and shared:
        raise UsageError(
            "--layout separate writes a file for each source into a directory. Allowed: "
            f"--out DIR (an existing one), --out null. Received: --out {shared[0]}"
        )
    return shared, own


def _together(sources: Sequence[NamedSource]) -> SourceInfo:
    """Return what the engine is told: the frames of all, of which many count, not one's time.

    Sizes and rates are not known yet: 720p and 30 frames/s each is what cameras give.
    """
    return SourceInfo(
        name=_title(sources),
        stem="sources",
        width=1280,
        height=720,
        fps=Fraction(30 * len(sources)),
        live=False,
    )


def _title(sources: Sequence[NamedSource]) -> str:
    return f"{len(sources)} sources: {', '.join(source.name for source in sources)}"


def _is_live(source: NamedSource, pipes_live: bool) -> bool:
    spec = source.spec
    if spec.kind == "lavfi":
        return is_live(spec.target)
    if pipes_live and spec.kind in ("stdin", "file"):
        return spec.kind == "stdin" or is_pipe(Path(spec.target))
    return spec.kind in ("camera", "stream", "screen")


def _grid(
    sources: Sequence[NamedSource], sinks: list[Sink], engine: Engine, *, pipes_live: bool
) -> Grid | None:
    if not sinks:
        return None
    names = [source.name for source in sources]
    live = any(_is_live(source, pipes_live) for source in sources)
    live = live or any(sink.presents for sink in sinks)
    return (LiveGrid if live else FileGrid)(names, sinks, engine.spec)


def _own_sinks(
    options: argparse.Namespace,
    source: NamedSource,
    texts: Sequence[str],
    wanted: SinkOptions,
    lines: JsonlFile | None,
) -> list[Sink]:
    sinks = [open_sink(text, wanted) for text in texts]
    if options.record:
        sinks.append(SourcePicturesSink(options.record, wanted))
    if options.labels_out:
        sinks.append(open_label_sink(options.labels_out, wanted, several=True))
    if lines is not None:
        sinks.append(JsonlSink(options.jsonl, shared=lines, source=source.name))
    return sinks


class _Health:
    """How every stream is, for the live page."""

    def __init__(self, profilers: dict[str, Profiler], controls: Controls) -> None:
        self.streams: Sequence[Stream] = ()
        self._profilers = profilers
        self._controls = controls

    def __call__(self) -> list[StreamHealth]:
        infos = {stream.name: stream.info for stream in self.streams}
        return [
            health_of(name, profiler, infos.get(name), self._controls)
            for name, profiler in self._profilers.items()
        ]


class _Run:
    """The part of the run in which frames flow."""

    def __init__(
        self,
        options: argparse.Namespace,
        loop: SharedLoop,
        grid: Grid | None,
        total: Profiler,
        renderers: Sequence[Renderer],
        engine: Engine,
        controls: Controls,
        signals: Signals,
    ) -> None:
        self._options = options
        self._loop = loop
        self._grid = grid
        self._total = total
        self._renderers = renderers
        self._engine = engine
        self._engine_profile = engine.profile()
        self._controls = controls
        self._signals = signals
        self._hud_due_s = 0.0

    def run(self) -> int:
        end = END_OF_INPUT
        try:
            if self._grid is not None:
                self._grid.open()
            try:
                with self._progress() as progress:

                    def while_running() -> None:
                        self._look_after()
                        if progress is not None:
                            progress.update()

                    self._loop.run(while_running)
            finally:
                self._look_after()
                if self._grid is not None:
                    self._grid.close()
            if self._signals.code is not None:
                end = "interrupted"
            elif self._controls.quit:
                end = "quit"
            elif all(s.profiler.ended == MAX_FRAMES_REACHED for s in self._loop.streams):
                end = MAX_FRAMES_REACHED
            self._raise_failures()
        except BaseException as error:
            end = session.end_of(error)
            raise
        finally:
            self._close(end)
        return self._signals.code or 0

    def _look_after(self) -> None:
        """Note the streams that ended, and let the HUDs say what is now."""
        for number, stream in enumerate(self._loop.streams):
            if stream.profiler.ended is None and not stream.alive and stream.threads():
                self._note_end(number, stream)
        now_s = time.monotonic()
        if now_s >= self._hud_due_s:
            self._hud_due_s = now_s + session.HUD_S
            for stream, renderer in zip(self._loop.streams, self._renderers, strict=True):
                renderer.hud_text = session.hud_text(
                    stream.profiler, self._engine.spec.network, self._engine_profile.precision
                )

    def _note_end(self, number: int, stream: Stream) -> None:
        profiler, failure = stream.profiler, stream.failure
        if stream.failed and failure is not None:
            profiler.ended = getattr(failure, "reason", "INTERNAL")
            _log.error(
                "%s: %s: %s; the other sources go on",
                profiler.ended,
                stream.name,
                failure,
                extra={"reason": profiler.ended},
            )
        elif self._signals.code is not None or self._controls.quit:
            profiler.ended = "quit" if self._controls.quit else "interrupted"
        elif profiler.frames_out == self._options.max_frames:
            profiler.ended = MAX_FRAMES_REACHED
        else:
            profiler.ended = END_OF_INPUT
            _log.info("%s: %s", stream.name, END_OF_INPUT)
        if self._grid is not None:
            shown = f"failed: {profiler.ended}" if stream.failed else "ended"
            self._grid.ended(number, shown)

    def _raise_failures(self) -> None:
        """Raise one error that names every stream and output that failed.

        Raises:
            RealtimeError: something did; the others went on to their end.
        """
        failures: dict[int, tuple[BaseException, list[str]]] = {}
        for stream in self._loop.streams:
            if stream.failure is not None:
                known = failures.setdefault(id(stream.failure), (stream.failure, []))
                known[1].append(str(stream.name))
        grid = self._grid.failure if self._grid is not None else None
        if grid is not None:
            failures.setdefault(id(grid), (grid, ["grid"]))
        if not failures:
            return
        parts = [f"{', '.join(names)}: {error}" for error, names in failures.values()]
        reasons = {getattr(error, "reason", "INTERNAL") for error, _ in failures.values()}
        failed = sum(stream.failed for stream in self._loop.streams)
        raise RealtimeError(
            f"{failed} of {len(self._loop.streams)} sources failed: {'; '.join(parts)}"
            if failed
            else f"an output failed: {'; '.join(parts)}",
            reason=reasons.pop() if len(reasons) == 1 else "FAILED",
        ) from next(iter(failures.values()))[0]

    def _progress(self) -> contextlib.AbstractContextManager[ProgressLine | None]:
        if not session.wants_progress(self._options):
            return contextlib.nullcontext()
        count = len(self._loop.streams)
        info = SourceInfo(name=f"{count} sources", stem=f"{count} sources", width=0, height=0)
        return ProgressLine(info, self._total, total=None, force=bool(self._options.progress))

    def _close(self, end: str) -> None:
        streams = self._loop.streams
        outputs = [said for stream in streams for said in stream.summaries()]
        if self._grid is not None:
            outputs += self._grid.summaries()
        count = f"{len(streams)} sources"
        report = build_report(
            self._total,
            self._engine_profile,
            self._engine.spec,
            SourceInfo(name=count, stem="sources", width=0, height=0),
            end=end,
            in_flight=self._loop.in_flight_limit,
            outputs=outputs,
        )
        session.finish_report(self._options, self._of_each(report), self._total)

    def _of_each(self, report: RunReport) -> RunReport:
        sizes = [
            f"{stream.name} {stream.info.width}x{stream.info.height}"
            for stream in self._loop.streams
            if stream.info is not None
        ]
        missed = dict(report.missed)
        if self._grid is not None:
            missed.update(self._grid.missed())
        return dataclasses.replace(
            report,
            missed=missed,
            streams=[
                StreamReport.of(
                    str(stream.name), stream.profiler.ended or report.end, stream.profiler
                )
                for stream in self._loop.streams
            ],
            environment={**report.environment, "source_size": ", ".join(sizes)},
        )
