"""Several sources at once, and a short name for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sources.lists import TypedSource, is_list, read_list
from rtseg.realtime.sources.naming import stem_of
from rtseg.realtime.sources.resolve import SourceSpec, parse_source

MOST_SOURCES = 64


@dataclass(frozen=True)
class NamedSource:
    """A source beside others.

    Attributes:
        name: short and unique among them, fit for file names and people; no password in it.
        text: what the user typed; may hold a password.
        spec: what it means.
        own: fields of ``SourceOptions`` that a list gives to this source alone.
    """

    name: str
    text: str
    spec: SourceSpec
    own: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"NamedSource(name={self.name!r}, spec={self.spec!r})"


def named_sources(texts: Sequence[str]) -> list[NamedSource]:
    """Return the sources that texts mean, those of lists (``.txt``, ``.streams``) included.

    A list has one source a line; see :func:`~rtseg.realtime.sources.lists.read_list`.

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


def typed_sources(texts: Sequence[str]) -> list[TypedSource]:
    """Return what was typed, with the lines of lists in their places.

    Raises:
        UsageError: as :func:`named_sources`.
        SourceError: as :func:`named_sources`.
    """
    return [
        source
        for text in texts
        for source in (read_list(text) if is_list(text) else [TypedSource(text)])
    ]


def name_sources(typed: Sequence[TypedSource]) -> list[NamedSource]:
    """Return sources with their names: those that the user gave, others made from the text.

    Raises:
        UsageError: no known form, standard input named twice, or two names that are one.
        SourceError: a file that is not there.
    """
    specs = [parse_source(source.text) for source in typed]
    if sum(spec.kind == "stdin" for spec in specs) > 1:
        raise UsageError("standard input (-) can be read once. Received: it twice")
    given = Counter(source.name.lower() for source in typed if source.name)
    twice = next((name for name, count in given.items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"--name is of one source. Received: {twice!r} {given[twice]} times")
    pairs = zip(typed, specs, strict=True)
    names = _unique([(s.name, s.name) if s.name else _names(spec) for s, spec in pairs])
    return [
        NamedSource(name, source.text, spec, source.own)
        for name, source, spec in zip(names, typed, specs, strict=True)
    ]


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
