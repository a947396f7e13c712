"""From what the user types to a sink."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import UsageError
from rtseg.realtime.fileurl import plain_path
from rtseg.realtime.numbered import is_pattern
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.failure import sink_error
from rtseg.realtime.sinks.network import is_network, parse_network, shown_address
from rtseg.realtime.sinks.segments import SegmentedVideoSink, SegmentOptions
from rtseg.realtime.sinks.sink import Sink
from rtseg.realtime.web.address import is_web, parse_web
from rtseg.realtime.web.options import WebOptions

SinkKind = Literal[
    "window", "null", "web", "network", "video", "images", "picture", "directory", "stdout"
]
LabelIds = Literal["trainids", "cityscapes"]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

FORMS = (
    "FILE.mp4, FILE.mkv, FILE.mov, an existing directory, frame_%06d.png, "
    "photo.png (of one picture), window, null, "
    "web, web:PORT, http://HOST:PORT (live page), rtsp[s]://HOST/PATH, rtmp[s]://HOST/APP/KEY, "
    "udp://HOST:PORT (MPEG-TS), - (Matroska on standard output)"
)

_IMPOSSIBLE = {
    "srt": "the FFmpeg in PyAV's wheels is built without it",
    "tcp": "it has no form of its own for pictures",
}


@dataclass(frozen=True)
class SinkTarget:
    """An output as it was understood.

    Attributes:
        kind: what it is.
        text: what the user typed, with any password; of a ``file://`` address the path.
    """

    kind: SinkKind
    text: str


@dataclass(frozen=True, kw_only=True)
class SinkOptions:
    """What the user may say about outputs.

    Attributes:
        encode: codec and quality of videos.
        overwrite: whether existing files may be replaced.
        label_ids: ids of label outputs: ``trainids`` or ``cityscapes``.
        controls: where the wishes of a window's or page's viewer go.
        web: token, clocks and colours of the live page.
        segment: how video files are cut, None for one file each.
        inputs: files that are read; a ring of segments deletes none of them.
    """

    encode: EncodeOptions = field(default_factory=EncodeOptions)
    overwrite: bool = False
    label_ids: LabelIds = "trainids"
    controls: Controls | None = None
    web: WebOptions = field(default_factory=WebOptions)
    segment: SegmentOptions | None = None
    inputs: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.label_ids not in get_args(LabelIds):
            raise UsageError(
                f"unknown label ids {self.label_ids!r}. Allowed: {', '.join(get_args(LabelIds))}"
            )


def parse_sink(text: str) -> SinkTarget:
    """Return what kind of output a text means; nothing is opened.

    Raises:
        UsageError: no known form; the message lists those there are.

    Example:
        >>> parse_sink("seg.mp4").kind
        'video'
    """
    plain = text.strip()
    if plain in ("window", "null"):
        return SinkTarget("window" if plain == "window" else "null", plain)
    if plain == "-":
        return SinkTarget("stdout", plain)
    if not plain or "\0" in plain:
        raise UsageError(f"an output is one of {FORMS}. Received: {text!r}")
    if is_web(plain):
        parse_web(plain)
        return SinkTarget("web", plain)
    if is_network(plain):
        parse_network(plain)
        return SinkTarget("network", plain)
    scheme = plain.split("://", maxsplit=1)[0].lower()
    if "://" in plain and scheme in _IMPOSSIBLE:
        raise UsageError(f"no {scheme} outputs: {_IMPOSSIBLE[scheme]}. Allowed: {FORMS}")
    plain = plain_path(plain)
    path = Path(plain)
    suffix = path.suffix.lower()
    if os.path.isdir(path):
        return SinkTarget("directory", plain)
    if plain.endswith(os.sep):
        return SinkTarget("directory", plain)  # it is made when the run begins
    if suffix in VIDEO_SUFFIXES:
        return SinkTarget("video", plain)
    if suffix in IMAGE_SUFFIXES:
        if is_pattern(plain):
            return SinkTarget("images", plain)
        if "%" not in path.name:
            return SinkTarget("picture", plain)
        from rtseg.realtime.sinks.images import needs_number

        raise needs_number(text)
    hint = ""
    near = difflib.get_close_matches(plain.lower(), ("window", "null", "web"), n=1, cutoff=0.7)
    if near:
        hint = f"; did you mean {near[0]!r}?"
    elif suffix:
        hint = f"; did you mean {str(path.with_suffix('.mp4'))!r}?"
    raise UsageError(f"unknown output {shown_address(text)!r}{hint or '.'} Allowed: {FORMS}")


def takes_sound(text: str) -> bool:
    """Return whether the output that a text means carries the source's sound."""
    return parse_sink(text).kind in ("video", "directory", "stdout", "network")


def open_sink(text: str, options: SinkOptions | None = None) -> Sink:
    """Return the sink for what a user typed; it is opened by :meth:`Sink.open`.

    Raises:
        UsageError: no known form, or a file that exists and may not be overwritten.
    """
    options = options if options is not None else SinkOptions()
    target = parse_sink(text)
    if target.kind == "window":
        from rtseg.realtime.sinks.window import WindowSink

        return WindowSink(options.controls)
    if target.kind == "network":
        from rtseg.realtime.sinks.publisher import NetworkSink

        return NetworkSink(parse_network(target.text), options.encode)
    if target.kind == "null":
        from rtseg.realtime.sinks.null import NullSink

        return NullSink()
    if target.kind == "web":
        from rtseg.realtime.sinks.web import WebSink

        return WebSink(parse_web(target.text), options.controls, options.web)
    if target.kind == "images":
        from rtseg.realtime.sinks.images import ImageSink

        return ImageSink(target.text, overwrite=options.overwrite)
    from rtseg.realtime.sinks.outfile import refuse_existing

    if target.kind == "picture":
        from rtseg.realtime.sinks.images import PictureSink

        refuse_existing(Path(target.text), options.overwrite)
        return PictureSink(target.text, overwrite=options.overwrite)
    from rtseg.realtime.sinks.video import VideoFileSink

    if target.kind == "directory":
        _make_folder(Path(target.text))
    if options.segment is not None and target.kind in ("video", "directory"):
        return SegmentedVideoSink(
            target.text,
            options.segment,
            options.encode,
            overwrite=options.overwrite,
            inputs=options.inputs,
        )
    if target.kind == "video":
        refuse_existing(Path(target.text), options.overwrite)
    return VideoFileSink(target.text, options.encode, overwrite=options.overwrite)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise sink_error(error, str(path)) from error


def open_label_sink(
    text: str, options: SinkOptions | None = None, *, several: bool = False
) -> Sink:
    """Return the sink for ``--labels-out``: a directory of PNGs, or a gray ``.mkv``.

    Args:
        text: what the user typed.
        options: what else was asked for.
        several: whether other sources write into the same directory.

    Raises:
        UsageError: another suffix, or a file that exists and may not be overwritten.
    """
    from rtseg.realtime.sinks.labels import LabelSink, LabelVideoSink
    from rtseg.realtime.sinks.outfile import refuse_existing

    options = options if options is not None else SinkOptions()
    path = Path(text)
    if text == "-":
        raise UsageError(
            "class ids are not written to standard output. Allowed: a directory (./- if that is "
            "its name) or FILE.mkv. Received: '-'"
        )
    if path.suffix.lower() == ".mkv" and not os.path.isdir(path):
        refuse_existing(path, options.overwrite)
        return LabelVideoSink(path, options.label_ids, overwrite=options.overwrite)
    if path.suffix.lower() in (".mp4", ".m4v", ".mov", ".avi", ".png", ".webm"):
        raise UsageError(
            f"class ids need a lossless form. Allowed: a directory (PNGs) or FILE.mkv. "
            f"Received: {text!r}"
        )
    return LabelSink(path, options.label_ids, overwrite=options.overwrite, several=several)


def open_jsonl_sink(text: str, options: SinkOptions | None = None) -> Sink:
    """Return the sink for ``--jsonl``: a file, or ``-`` for standard output.

    Raises:
        UsageError: the file exists and may not be overwritten.
    """
    from rtseg.realtime.sinks.jsonl import JsonlSink
    from rtseg.realtime.sinks.outfile import refuse_existing

    options = options if options is not None else SinkOptions()
    if text != "-":
        refuse_existing(Path(text), options.overwrite)
    return JsonlSink(text, overwrite=options.overwrite)
