"""What the command's options ask of source, flow, view and outputs."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtseg.engines.engine import Engine
from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import RealtimeError, UsageError
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.palette import select_classes
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.clashes import refuse_clashes
from rtseg.realtime.sinks.encode import EncodeOptions, parse_bitrate
from rtseg.realtime.sinks.resolve import (
    SinkOptions,
    open_jsonl_sink,
    open_label_sink,
    open_sink,
    parse_sink,
    takes_sound,
)
from rtseg.realtime.sinks.segments import segment_options
from rtseg.realtime.sinks.sink import Sink
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.several import NamedSource
from rtseg.realtime.throttle import FlowOptions
from rtseg.realtime.trace import Trace, TraceFile
from rtseg.realtime.view import VIEWS, View, ViewOptions
from rtseg.realtime.web.address import is_web
from rtseg.realtime.web.options import WebOptions


def check_measure_options(options: argparse.Namespace) -> None:
    """Refuse names that are surely a slip: these files are replaced without asking.

    Raises:
        UsageError: another suffix than allowed.
        SinkError: the profile, written at the end of the run, could not be.
    """
    allowed = {"profile": (".json", ".html"), "trace": (".json",)}
    for option, suffixes in allowed.items():
        path = getattr(options, option)
        if path and Path(path).suffix.lower() not in suffixes:
            names = " or ".join(f"FILE{suffix}" for suffix in suffixes)
            raise UsageError(f"--{option} writes {names}. Received: {path!r}")
    if options.profile:
        from rtseg.realtime.report import check_report_path

        check_report_path(Path(options.profile))


def metrics_server(
    options: argparse.Namespace, profilers: Mapping[str, Profiler], outputs: Sequence[Sink]
) -> contextlib.AbstractContextManager[object]:
    """Return the server of ``--metrics-port``, or nothing to enter; ``outputs`` may grow."""
    if options.metrics_port is None:
        return contextlib.nullcontext()
    from rtseg.realtime.metrics import MetricsServer

    address = options.metrics_port
    return MetricsServer(
        address.port, profilers, host=address.host, stale_s=options.timeout, outputs=outputs
    )


def open_trace(options: argparse.Namespace) -> Trace:
    """Return the trace of ``--trace``, or one that forgets."""
    return TraceFile(Path(options.trace)) if options.trace else Trace()


def source_options(
    options: argparse.Namespace, own: Mapping[str, Any] | None = None
) -> SourceOptions:
    """Return what the user asked of sources, and in a list of one alone (``own``)."""
    of_all = SourceOptions(
        start_s=options.start,
        duration_s=options.duration,
        loop=options.loop,
        width=options.width,
        height=options.height,
        fps=options.fps,
        input_format=options.input_format,
        rtsp_transport=options.rtsp_transport,
        timeout_s=options.timeout,
        reconnect=options.reconnect,
        hwaccel=options.hwaccel,
        live=options.live,
        rotate=options.rotate,
        flip=options.flip,
        track=options.track,
        live_sound=not options.no_audio
        and any(map(takes_sound, [*options.out, *filter(None, [options.record])])),
    )
    return dataclasses.replace(of_all, **own) if own else of_all


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
    if all(text in ("window", "null") or is_web(text) for text in sinks):
        return VIEWS
    return tuple(v for v in VIEWS if (v == "side-by-side") == (view.view == "side-by-side"))


def sink_texts(options: argparse.Namespace, sources: Sequence[NamedSource]) -> list[str]:
    """Return the outputs for pictures; a window when nothing was asked for.

    Raises:
        UsageError: nothing was asked for and there is no display, or one picture for a source
            that surely has more.
    """
    texts = list(options.out)
    pictures = len(sources) == 1 and sources[0].spec.kind == "images"
    for text in texts:  # errors of form come before anything is opened
        if parse_sink(text).kind == "picture" and not pictures:
            from rtseg.realtime.sinks.images import needs_number

            raise needs_number(text)
    if options.headless and "window" in texts:
        raise UsageError("--headless and --out window exclude each other. Allowed: one of them")
    if texts or options.record or options.labels_out or options.jsonl:
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
    options: argparse.Namespace,
    texts: Sequence[str],
    controls: Controls,
    web: WebOptions,
    inputs: tuple[Path, ...] = (),
) -> SinkOptions:
    """Return what the user says about all outputs."""
    encode = EncodeOptions(
        codec=options.codec or EncodeOptions.codec,
        crf=options.crf,
        bitrate_bps=None if options.bitrate is None else parse_bitrate(options.bitrate),
        audio=not options.no_audio,
        preset=options.preset,
        creation_time=options.redact is None,
    )
    return SinkOptions(
        encode=encode,
        overwrite=options.overwrite,
        label_ids="cityscapes" if options.label_ids == "cityscapes" else "trainids",
        controls=controls,
        web=web,
        segment=segment_options(
            options.segment, options.segment_files, [*texts, *filter(None, [options.record])]
        ),
        inputs=inputs,
    )


def files_read(sources: Sequence[NamedSource]) -> tuple[Path, ...]:
    """Return the files that sources are, video files and single pictures."""
    kinds = ("file", "images")
    return tuple(Path(each.spec.target) for each in sources if each.spec.kind in kinds)


def refuse_output_clashes(
    options: argparse.Namespace, texts: Sequence[str], sources: Sequence[NamedSource]
) -> None:
    """Refuse two outputs into one place, and an output over an input.

    Raises:
        UsageError: there is a clash (``SAME_FILE``).
    """
    from rtseg.realtime.sources.find_images import find_images

    files = (options.record, options.labels_out, options.jsonl, options.profile, options.trace)
    outputs = [*texts, *filter(None, files)]
    for target in map(parse_sink, texts):
        if target.kind == "directory":
            outputs += [f"{Path(target.text) / each.name}_seg.mp4" for each in sources]
    pictures: list[Path] = []
    for each in sources:
        if each.spec.kind == "images":
            with contextlib.suppress(RealtimeError):  # opening it says what is wrong
                pictures += find_images(each.spec.target)
    refuse_clashes(outputs, files_read(sources), pictures)


def open_sinks(
    options: argparse.Namespace, texts: Sequence[str], wanted: SinkOptions
) -> list[Sink]:
    """Return every output that was asked for; files that exist are refused here."""
    sinks = [open_sink(text, wanted) for text in texts]
    if options.record:
        from rtseg.realtime.sinks.source_pictures import SourcePicturesSink

        sinks.append(SourcePicturesSink(options.record, wanted))
    if options.labels_out:
        sinks.append(open_label_sink(options.labels_out, wanted))
    if options.jsonl:
        sinks.append(open_jsonl_sink(options.jsonl, wanted))
    return sinks
