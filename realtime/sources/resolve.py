"""From what a user types to a source."""

from __future__ import annotations

import difflib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from rtseg.engines.lookup import mode_of
from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.fileurl import path_of_url
from rtseg.realtime.numbered import CODE
from rtseg.realtime.sources.elsewhere import GSTREAMER, advice_for_scheme, is_gstreamer
from rtseg.realtime.sources.find_images import SUFFIXES
from rtseg.realtime.sources.login import escaped_login
from rtseg.realtime.sources.naming import shown
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.source import Source
from rtseg.realtime.sources.stream import SCHEMES, is_sdp

__all__ = ["SourceOptions", "SourceSpec", "open_source", "parse_source", "source_of"]

Kind = Literal["camera", "stream", "file", "images", "stdin", "screen", "lavfi"]

FORMS = (
    "a camera (0, camera0, /dev/video0, /dev/v4l/by-id/…), a stream "
    f"({', '.join(f'{scheme}://' for scheme in SCHEMES)}), a video file (drive.mp4, ./0, "
    "file://…, camera.sdp for RTP), pictures (a folder, a quoted glob, frame_%06d.png), "
    "- (standard input), screen, screen:1, testsrc, lavfi:GRAPH"
)

LIVE_KINDS = ("camera", "stream", "screen", "lavfi")
"""Kinds of source that may be live."""

_CAMERA = re.compile(r"(?:camera:?)?([0-9]{1,4})")
_DEVICE = re.compile(r"/dev/(?:video[0-9]+|v4l/by-(?:id|path)/[^/]+)")
_SCREEN = re.compile(r"screen(?::([0-9]{1,4}))?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class SourceSpec:
    """Which source is meant.

    Attributes:
        kind: what sort of source.
        target: what it is opened by: a device, URL, path, pattern, filter graph or number;
            may hold a password.
        name: the same, fit to be shown to people.
    """

    kind: Kind
    target: str
    name: str

    def __repr__(self) -> str:
        return f"SourceSpec(kind={self.kind!r}, name={self.name!r})"


def parse_source(text: str | os.PathLike[str]) -> SourceSpec:
    """Say which source ``text`` means; look at the file system, but open nothing.

    In this order: an explicit scheme or word, a number or ``cameraN``, an existing path, a
    pattern. A file called ``0`` is ``./0``. A path object is a path, whatever its name.

    >>> parse_source("camera:1")
    SourceSpec(kind='camera', name='/dev/video1')
    >>> parse_source("rtsp://admin:secret@10.0.0.5/live")
    SourceSpec(kind='stream', name='rtsp://***@10.0.0.5/live')

    Raises:
        UsageError: no form that is known.
        SourceError: ``NOT_FOUND``: it looks like a path, and there is none.
    """
    if isinstance(text, os.PathLike):
        path = os.fspath(text)
        return _by_path(path) or _missing(path)
    if not text.strip():
        raise UsageError(f"the source is empty. Allowed: {FORMS}")
    return _by_word(text) or _by_scheme(text) or _camera(text) or _by_path(text) or _unknown(text)


def open_source(
    text: str | os.PathLike[str],
    options: SourceOptions | None = None,
    *,
    patient: bool = False,
) -> Source:
    """Return the source that ``text`` means, for use in a ``with`` block.

    Nothing is opened before the block begins (or :meth:`Source.open` is called). A stream or
    camera that is lost is connected anew, as ``options.reconnect`` says; see
    :class:`~rtseg.realtime.sources.reconnect.ReconnectingSource`. What is live ends
    ``options.duration_s`` seconds after its first frame.

    Args:
        text: what the user typed, or a path.
        options: what else was asked for.
        patient: whether a stream or camera that cannot be reached at first is tried again, as
            one that was lost; otherwise that is an error.

    >>> with open_source("testsrc", SourceOptions(duration_s=0.1)) as source:
    ...     [frame.index for frame in source.frames()]
    [0, 1, 2]

    Raises:
        UsageError: no form that is known.
        SourceError: it looks like a path, and there is none.
    """
    spec = parse_source(text)
    wanted = options or SourceOptions()
    source: Source
    if spec.kind in ("stream", "camera") and wanted.reconnect != 0:
        from rtseg.realtime.sources.reconnect import ReconnectingSource

        source = ReconnectingSource(
            lambda: source_of(spec, wanted), attempts=wanted.reconnect, patient=patient
        )
    else:
        source = source_of(spec, wanted)
    if wanted.duration_s is not None and (spec.kind in LIVE_KINDS or wanted.live):
        from rtseg.realtime.sources.limited import LimitedSource

        return LimitedSource(source, wanted.duration_s)
    return source


def source_of(spec: SourceSpec, options: SourceOptions) -> Source:
    """Return the source of a spec, not yet open. A new one is needed for each connection."""
    # Only the kind in use is imported.
    if spec.kind == "camera":
        from rtseg.realtime.sources.camera import CameraSource

        return CameraSource(spec.target, options)
    if spec.kind == "stream":
        from rtseg.realtime.sources.stream import StreamSource

        return StreamSource(spec.target, options)
    if spec.kind == "file":
        from rtseg.realtime.sources.file import FileSource

        return FileSource(Path(spec.target), options)
    if spec.kind == "images":
        from rtseg.realtime.sources.images import ImageSource

        return ImageSource(spec.target, options)
    if spec.kind == "stdin":
        from rtseg.realtime.sources.stdin import StdinSource

        return StdinSource(options)
    if spec.kind == "screen":
        from rtseg.realtime.sources.screen import ScreenSource

        return ScreenSource(int(spec.target) if spec.target else None, options)
    from rtseg.realtime.sources.lavfi import LavfiSource

    return LavfiSource(spec.target, options, spec.name)


def _by_word(text: str) -> SourceSpec | None:
    if text == "-":
        return SourceSpec("stdin", text, "stdin")
    if text == "testsrc":
        from rtseg.realtime.sources.lavfi import TESTSRC

        return SourceSpec("lavfi", TESTSRC, text)
    screen = _SCREEN.fullmatch(text)
    if screen is not None:
        return SourceSpec("screen", screen[1] or "", text)
    if text.startswith("lavfi:"):
        graph = text.removeprefix("lavfi:").strip()
        if not graph:
            raise UsageError(
                "lavfi: needs a filter graph, such as lavfi:testsrc=size=640x360. Received: lavfi:"
            )
        return SourceSpec("lavfi", graph, shown(text))
    return None


def _by_scheme(text: str) -> SourceSpec | None:
    path = path_of_url(text)
    match = _SCHEME.match(text)
    if match is None:
        return None if path is None else _by_path(path)
    if path is not None:
        return _by_path(path) or _missing(path)
    scheme = match[1].lower()
    rest = text[match.end() :]
    if scheme == "v4l2":
        if not rest.startswith("/"):
            raise UsageError(f"v4l2:// needs a device: v4l2:///dev/video0. Received: {shown(text)}")
        return SourceSpec("camera", rest, shown(rest))
    advice = advice_for_scheme(scheme)
    if advice is not None:
        raise UsageError(f"{advice} Received: {shown(text)}")
    if scheme not in SCHEMES:
        raise UsageError(
            f"{shown(match[0])} is no scheme that is known. Received: {shown(text)}. "
            f"Allowed: {FORMS}"
        )
    address = escaped_login(text)
    try:
        parts = urlsplit(address)
        valid = bool(parts.netloc) and (parts.port is None or parts.port >= 0)
    except ValueError:
        valid = False
    if not valid or not text.isprintable():
        raise UsageError(
            f"not a complete address: SCHEME://HOST:PORT/PATH. Received: {shown(text)}"
        )
    return SourceSpec("stream", address, shown(text))


def _camera(text: str) -> SourceSpec | None:
    number = _CAMERA.fullmatch(text)
    if number is not None:
        device = f"/dev/video{int(number[1])}"
        return SourceSpec("camera", device, device)
    return SourceSpec("camera", text, text) if _DEVICE.fullmatch(text) else None


def _by_path(path: str) -> SourceSpec | None:
    """Return the spec of an existing path or a pattern; None where there is neither."""
    where = Path(path)
    try:
        mode = mode_of(where)
        if stat.S_ISDIR(mode):
            return SourceSpec("images", path, shown(path))
        if stat.S_ISCHR(mode):  # a camera by whatever name, such as a rule of udev gives it
            return SourceSpec("camera", path, shown(path))
        if mode:
            if is_sdp(path):
                return SourceSpec("stream", path, shown(path))
            kind: Kind = "images" if where.suffix.lower() in SUFFIXES else "file"
            return SourceSpec(kind, path, shown(path))
    except PermissionError:
        return SourceSpec("file", path, shown(path))  # opening it will say so
    except (OSError, ValueError):  # too long, or a null character in it
        return None
    if CODE.search(where.name) or any(sign in path for sign in "*?["):
        return SourceSpec("images", path, shown(path))
    return None


def _unknown(text: str) -> SourceSpec:
    if is_gstreamer(text):
        raise UsageError(f"{GSTREAMER} Received: {shown(text)}")
    if "/" in text or Path(text).suffix:
        return _missing(text)
    near = _near(text)
    raise SourceError(
        f"{shown(text)}: neither a file here{near} nor a source that is known. Allowed: {FORMS}",
        reason="NOT_FOUND",
    )


def _missing(path: str) -> SourceSpec:
    raise SourceError(f"{shown(path)}: there is no such file{_near(path)}", reason="NOT_FOUND")


def _near(path: str) -> str:
    """Return a hint with names that exist and look alike, or nothing."""
    where = Path(path)
    try:
        names = [file.name for file in where.parent.iterdir()]
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(where.name, names, n=3, cutoff=0.6)
    return f"; near it: {', '.join(map(shown, close))}" if close else ""
