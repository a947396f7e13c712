"""Every stage of every frame as events on a time axis, for Perfetto and chrome://tracing.

Format: "Trace Event Format" (Chromium project, the JSON array form, which is readable also
where its end is missing).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import now_ns

_log = logging.getLogger(__name__)

MOST_EVENTS = 1_000_000
"""A trace ends after so many events (110 MB, some 45 minutes of 30 frames/s), and says so."""

_BUFFER_BYTES = 1 << 20
_REASONS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "NO_SPACE")
_REASONS[errno.ENOENT] = "NOT_FOUND"


class Trace:
    """Takes what happens and forgets it; :class:`TraceFile` writes it down.

    All methods may be called from every thread. Times are on :func:`now_ns`'s clock.
    """

    source: str | None = None
    """Which of several sources the events are of; None where there is one."""

    def span(self, name: str, start_ns: int, end_ns: int, frame: int | None = None) -> None:
        """Note what the calling thread did from ``start_ns`` to ``end_ns``.

        Spans of one thread follow each other: a start before the last one's end is moved.
        """

    def overlapping(
        self, name: str, start_ns: int, end_ns: int, frame: int, **details: float
    ) -> None:
        """Note what happened to a frame while others may have been under way."""

    def instant(self, name: str) -> None:
        """Note that something happened in the calling thread just now."""

    def of(self, source: str) -> Trace:
        """Return a trace whose events go into this one, marked as those of ``source``."""
        return self

    def close(self) -> None:
        """Finish. May be called more than once."""


class TraceFile(Trace):
    """Writes trace events to a file as they come; memory does not grow with the run.

    A file that cannot be written any more ends the trace, not the run: it is cut back to whole
    events, and :meth:`close` says so.

    Args:
        path: the file, replaced if it exists.
        most_events: how many events until the trace ends, with a note in it.

    Raises:
        SinkError: the file cannot be made.
    """

    def __init__(self, path: Path, *, most_events: int = MOST_EVENTS) -> None:
        self._path = path
        self._left = most_events
        self._lock = threading.Lock()
        self._ends_ns: dict[int, int] = {}
        self._begun_ns = now_ns()
        self._file: IO[str] | None = None
        self._failure: OSError | None = None
        try:
            self._file = open(path, "w", encoding="utf-8", buffering=_BUFFER_BYTES)  # noqa: SIM115
        except OSError as error:
            raise SinkError(
                f"cannot write the trace to {path}: {error.strerror or error}",
                reason=_reason(error),
            ) from error
        self._separator = "[\n"
        self._put({"name": "process_name", "ph": "M", "args": {"name": "rt-seg"}})

    def of(self, source: str) -> Trace:
        """Return a trace for one of several sources; see :meth:`Trace.of`."""
        return _SourceTrace(self, source)

    def span(self, name: str, start_ns: int, end_ns: int, frame: int | None = None) -> None:
        """Note what the calling thread did; see :meth:`Trace.span`."""
        self.put_span(name, start_ns, end_ns, frame, None)

    def overlapping(
        self, name: str, start_ns: int, end_ns: int, frame: int, **details: float
    ) -> None:
        """Note what happened to a frame; see :meth:`Trace.overlapping`."""
        self.put_overlapping(name, start_ns, end_ns, frame, None, details)

    def instant(self, name: str) -> None:
        """Note that something happened; see :meth:`Trace.instant`."""
        self.put_instant(name, None)

    def put_span(
        self, name: str, start_ns: int, end_ns: int, frame: int | None, source: str | None
    ) -> None:
        """Note a span of a frame of one of several sources; see :meth:`Trace.span`."""
        with self._lock:
            thread = self._track()
            start_ns = max(start_ns, self._ends_ns[thread])
            end_ns = max(end_ns, start_ns)
            self._ends_ns[thread] = end_ns
            self._put(
                {
                    "name": name,
                    "ph": "X",
                    "tid": thread,
                    "ts": self._us(start_ns),
                    "dur": (end_ns - start_ns) / 1e3,
                    "args": ({} if frame is None else {"frame": frame}) | _named(source),
                }
            )

    def put_overlapping(
        self,
        name: str,
        start_ns: int,
        end_ns: int,
        frame: int,
        source: str | None,
        details: Mapping[str, float],
    ) -> None:
        """Note what happened to a frame of a source; see :meth:`Trace.overlapping`."""
        with self._lock:
            number = frame if source is None else f"{source} {frame}"
            event = {"name": name, "cat": "frame", "id": number, "tid": self._track()}
            arguments = {"frame": frame, **_named(source), **details}
            self._put({**event, "ph": "b", "ts": self._us(start_ns), "args": arguments})
            self._put({**event, "ph": "e", "ts": self._us(max(start_ns, end_ns))})

    def put_instant(self, name: str, source: str | None) -> None:
        """Note that something happened to a source; see :meth:`Trace.instant`."""
        with self._lock:
            event = {"name": name, "ph": "i", "s": "t", "tid": self._track()}
            named = {"args": _named(source)} if source is not None else {}
            self._put({**event, **named, "ts": self._us(now_ns())})

    def close(self) -> None:
        """Finish the file; see :meth:`Trace.close`.

        Raises:
            SinkError: not all of it could be written; not where another error is on its way.
        """
        with self._lock:
            self._end()
            failure, self._failure = self._failure, None
        if failure is not None and sys.exc_info()[0] is None:
            raise SinkError(
                f"the trace {self._path} ended early: {failure.strerror or failure}; "
                "what was written so far is kept",
                reason=_reason(failure),
            )

    def _track(self) -> int:
        """Return the calling thread's track, and name it when it is new."""
        thread = threading.get_native_id()
        if thread not in self._ends_ns:
            self._ends_ns[thread] = self._begun_ns
            name = threading.current_thread().name.removeprefix("rtseg-")
            self._put({"name": "thread_name", "ph": "M", "tid": thread, "args": {"name": name}})
            order = {"sort_index": len(self._ends_ns)}
            self._put({"name": "thread_sort_index", "ph": "M", "tid": thread, "args": order})
        return thread

    def _us(self, time_ns: int) -> float:
        return (time_ns - self._begun_ns) / 1e3

    def _put(self, event: dict[str, object]) -> None:
        self._write(event)
        self._left -= 1
        if self._left == 0 and self._file is not None:
            _log.warning("%s: the trace is full and ends here; the run goes on", self._path)
            note = {"name": "trace full", "ph": "i", "s": "g", "tid": 0}
            self._write({**note, "ts": self._us(now_ns())})
            self._end()

    def _write(self, event: dict[str, object]) -> None:
        if self._file is None:
            return
        event["pid"] = os.getpid()
        try:
            self._file.write(self._separator + json.dumps(event))
            self._separator = ",\n"
        except OSError as error:
            self._give_up(self._file, error)

    def _end(self) -> None:
        if self._file is None:
            return
        try:
            self._file.write("\n]\n")
            self._file.close()
        except OSError as error:
            self._give_up(self._file, error)
        self._file = None

    def _give_up(self, file: IO[str], error: OSError) -> None:
        self._file, self._failure = None, error
        _log.warning(
            "%s: the trace ends here (%s); the run goes on", self._path, error.strerror or error
        )
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            _cut_to_whole_events(self._path)


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, "NOT_WRITABLE")


def _cut_to_whole_events(path: Path) -> None:
    """End a trace behind the last event that is there in full."""
    if not path.is_file():
        return
    data = path.read_bytes()
    end = max(data.rfind(b"},\n"), data.rfind(b"}\n"))
    # Shortened first: on a full disk only that makes room for the last bracket.
    os.truncate(path, end + 1 if end >= 0 else 0)
    if end >= 0:
        with path.open("ab") as file:
            file.write(b"\n]\n")


class _SourceTrace(Trace):
    """The events of one of several sources."""

    def __init__(self, file: TraceFile, source: str) -> None:
        self._file = file
        self.source = source

    def span(self, name: str, start_ns: int, end_ns: int, frame: int | None = None) -> None:
        self._file.put_span(name, start_ns, end_ns, frame, self.source)

    def overlapping(
        self, name: str, start_ns: int, end_ns: int, frame: int, **details: float
    ) -> None:
        self._file.put_overlapping(name, start_ns, end_ns, frame, self.source, details)

    def instant(self, name: str) -> None:
        self._file.put_instant(name, self.source)

    def of(self, source: str) -> Trace:
        return self._file.of(source)


def _named(source: str | None) -> dict[str, object]:
    return {} if source is None else {"source": source}
