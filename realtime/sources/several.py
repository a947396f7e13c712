"""Several sources at once: lists of them, and a short name for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.resolve import SourceSpec, parse_source

LIST_SUFFIXES = (".txt", ".streams")
MOST_SOURCES = 64
MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class NamedSource:
    """A source beside others.

    Attributes:
        name: short and unique among them, fit for file names and people; no password in it.
        text: what the user typed; may hold a password.
        spec: what it means.
    """

    name: str
    text: str
    spec: SourceSpec

    def __repr__(self) -> str:
        return f"NamedSource(name={self.name!r}, spec={self.spec!r})"


def named_sources(texts: Sequence[str]) -> list[NamedSource]:
    """Return the sources that texts mean, those of lists (``.txt``, ``.streams``) included.

    A list has one source a line, as one would type it after ``--source`` (paths are relative
    to the working directory); blank lines and lines that begin with ``#`` are skipped.

    Raises:
        UsageError: no known form, a list that is empty, too long or no text, or standard
            input named twice.
        SourceError: a file or list that is not there or cannot be read.

    >>> [source.name for source in named_sources(["rtsp://a:b@10.0.0.5/live", "camera1"])]
    ['live', 'camera1']
    """
    typed = typed_sources(texts)
    if len(typed) > MOST_SOURCES:
        raise UsageError(f"at most {MOST_SOURCES} sources at once. Received: {len(typed)}")
    return name_sources(typed)


def typed_sources(texts: Sequence[str]) -> list[str]:
    """Return what was typed, with the lines of lists in their places.

    Raises:
        UsageError: as :func:`named_sources`.
        SourceError: as :func:`named_sources`.
    """
    return [line for text in texts for line in (_lines(text) if _is_list(text) else [text])]


def name_sources(typed: Sequence[str]) -> list[NamedSource]:
    """Return sources, each typed by itself, with their names.

    Raises:
        UsageError: no known form, or standard input named twice.
        SourceError: a file that is not there.
    """
    specs = [parse_source(text) for text in typed]
    if sum(spec.kind == "stdin" for spec in specs) > 1:
        raise UsageError("standard input (-) can be read once. Received: it twice")
    names = _unique([_names(spec) for spec in specs])
    return [NamedSource(*parts) for parts in zip(names, typed, specs, strict=True)]


def _is_list(text: str) -> bool:
    return "://" not in text and Path(text).suffix.lower() in LIST_SUFFIXES


def _lines(text: str) -> list[str]:
    try:
        with open(text, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise SourceError(f"{shown(text)}: there is no such list", reason="NOT_FOUND") from None
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise SourceError(
            f"{shown(text)}: the list cannot be read: {why}", reason="PERMISSION_DENIED"
        ) from None
    try:
        words = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        words = "\0"
    if len(data) > MOST_BYTES or "\0" in words:
        raise UsageError(
            f"{shown(text)}: no list of sources. Allowed: a text file (UTF-8), one source a line"
        )
    lines = [line.strip() for line in words.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"{shown(text)}: the list names no source. Allowed: one a line")
    inner = next((line for line in found if _is_list(line)), None)
    if inner is not None:
        raise UsageError(f"{shown(text)}: a list within a list. Received: {shown(inner)}")
    return found


def _names(spec: SourceSpec) -> tuple[str, str]:
    """Return a short name and, for when others have it too, a longer one."""
    if spec.kind == "stream":
        return _stream_names(spec.target)
    if spec.kind == "camera":
        stem = stem_of(Path(spec.target).name, "camera").replace("video", "camera")
        return stem, stem
    if spec.kind in ("file", "images"):
        path = Path(spec.target)
        stem = stem_of(path.name if path.is_dir() else path.stem, "video")
        folder = stem_of(path.absolute().parent.name, "")
        return stem, f"{folder}-{stem}" if folder else stem
    stem = stem_of(spec.name.partition("=")[0].replace("lavfi:", ""), spec.kind)
    return stem, stem


def _stream_names(url: str) -> tuple[str, str]:
    """Return names made of path and host; a path with parameters in it may hold a password."""
    try:
        parts = urlsplit(url)
        host, port = stem_of(parts.hostname or "", "stream"), parts.port
    except ValueError:
        return "stream", "stream"
    last = parts.path.rstrip("/").rpartition("/")[2]
    if port is not None:
        host = f"{host}_{port}"
    if not last or any(sign in parts.path for sign in "=&@;"):
        return host, host
    stem = stem_of(last.rpartition(".")[0] or last, "stream")
    return stem, f"{host}-{stem}"


def _unique(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return the short names where they are unique, the longer ones or numbers elsewhere."""
    short = Counter(name.lower() for name, _ in names)
    chosen = [name if short[name.lower()] == 1 else longer for name, longer in names]
    taken = {name.lower() for name in chosen}
    seen: set[str] = set()
    unique = []
    for name in chosen:
        number, candidate = 1, name
        while candidate.lower() in seen or (number > 1 and candidate.lower() in taken):
            number += 1
            candidate = f"{name}-{number}"
        seen.add(candidate.lower())
        unique.append(candidate)
    return unique
