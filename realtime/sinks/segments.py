"""Segmented recording: one film in files of a fixed length, each of which plays by itself."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.fileurl import plain_path
from rtseg.realtime.frame import Rendered
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.failure import sink_error
from rtseg.realtime.sinks.segment_names import SegmentNames
from rtseg.realtime.sinks.sink import Sink, SinkContext, SinkSummary
from rtseg.realtime.sinks.video import FORMATS, VideoFileSink
from rtseg.realtime.wallclock import utc_text

if TYPE_CHECKING:
    import av

    Packet = av.Packet[Any]

_log = logging.getLogger(__name__)

LATE_SOUND_S = 2
"""How long a segment waits for its last sound after the next one's first picture, in seconds."""

MAX_HELD = 65_536
"""How many packets of sound may wait for their segment, where a file has all its sound first."""

LISTED = 1000
"""How many of the last segments are remembered for the report."""

_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How a recording is cut into files.

    Attributes:
        length_s: length of a segment in seconds, at least 1.
        files: how many files are kept, the one that is written included; None for all.

    Raises:
        UsageError: a number that makes no sense.
    """

    length_s: Fraction
    files: int | None = None

    def __post_init__(self) -> None:
        if self.length_s < 1:
            raise UsageError(f"a segment is 1 s or longer. Received: {float(self.length_s):g} s")
        if self.files is not None and self.files < 2:
            raise UsageError(f"a ring has at least 2 files. Received: {self.files}")


def segment_options(
    length_s: Fraction | None, files: int | None, outputs: Iterable[str]
) -> SegmentOptions | None:
    """Return what ``--segment`` and ``--segment-files`` ask for, None where they do not.

    Raises:
        UsageError: one without what it needs.
    """
    if length_s is None:
        if files is not None:
            raise UsageError(
                f"--segment-files goes with --segment. Received: --segment-files {files} alone"
            )
        return None
    if not any(_is_file(text) for text in outputs):
        raise UsageError(
            "--segment cuts video files. Allowed: with --out FILE.mp4, .mkv or .mov, or DIR/"
        )
    return SegmentOptions(length_s=length_s, files=files)


def _is_file(text: str) -> bool:
    plain = plain_path(text.strip())
    return (
        os.path.isdir(plain)
        or plain.endswith(("/", os.sep))
        or Path(plain).suffix.lower() in FORMATS
    )


@dataclass(frozen=True)
class Segment:
    """One file of a recording; its place in the source's time and its size.

    ``begun_at`` is when its first frame came, in UTC; None where the source is not live.
    """

    path: Path
    start_s: float
    duration_s: float
    size_bytes: int
    begun_at: str | None = None


class _Open:
    """A segment that is being written."""

    def __init__(self, sink: VideoFileSink, start_s: Fraction) -> None:
        self.sink = sink
        self.start_s = start_s
        self.begun_at: str | None = None


class SegmentedVideoSink(Sink):
    """Writes video files of a fixed length, one after the other.

    Cuts lie at multiples of the length on the source's time, at the first picture from there
    on: no frame is lost or doubled. Each file begins with a keyframe at time 0 and is a
    :class:`VideoFileSink`'s, so it plays by itself whatever happens, and has the sound that
    belongs to its pictures; a packet of sound that begins before the cut stays before it.

    Names follow a pattern (see :class:`SegmentNames`). Files of earlier runs are never
    replaced: numbers go on after the highest. With ``segment.files`` the oldest file that has
    such a name is deleted before one too many is begun.

    Args:
        path: the pattern, a plain name, or a directory (``<stem>_seg_000.mp4`` in it).
        segment: length and number of files.
        options: codec and quality.
        overwrite: whether the ring may delete files of earlier runs.
        inputs: files that are read beside the source's own; the ring deletes none of them.

    Raises:
        UsageError: not a pattern.
    """

    def __init__(
        self,
        path: str | Path,
        segment: SegmentOptions,
        options: EncodeOptions | None = None,
        *,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
    ) -> None:
        self._inputs = tuple(inputs)
        self._path = Path(path)
        self._is_folder = os.path.isdir(path)
        self._names = SegmentNames(self._path / "seg.mp4" if self._is_folder else self._path)
        self.name = str(path)
        self._segment = segment
        self._options = options
        self._overwrite = overwrite
        self._context: SinkContext | None = None
        self._number = 0
        self._first_s: Fraction | None = None
        self._cut_s = Fraction(0)
        self._current: _Open | None = None
        self._before: _Open | None = None
        self._sound: frozenset[int] = frozenset()
        self._sound_due: set[int] = set()
        self._waiting: deque[Packet] = deque()
        self._lost_sound = 0
        self._done: deque[Segment] = deque(maxlen=LISTED)
        self._count = 0
        self._deleted = 0
        self._begun = 0
        self._own: dict[Path, int] = {}  # this run's files of the ring, in their order

    def open(self, context: SinkContext) -> None:
        """Create the first file; see :meth:`Sink.open`."""
        self._context = context
        if self._is_folder:
            stem = context.source.stem.replace("%", "%%")
            self._names = SegmentNames(self._path / f"{stem}_seg.mp4")
        self.name = str(self._names.pattern)
        copied = context.source.passthrough
        self._sound = frozenset(stream.index for stream in copied if stream.type == "audio")
        earlier = self._ring()
        keep = self._segment.files
        if keep is not None and len(earlier) >= keep and not self._overwrite:
            raise UsageError(
                f"a ring of {keep} files would delete {len(earlier) - keep + 1} of the "
                f"{len(earlier)} that are called {self.name} already. Allowed: another name, or "
                "-y/--overwrite, which takes them into the ring",
                reason="EXISTS",
            )
        if earlier:
            _log.info("%s: %d files of earlier runs stay before it", self.name, len(earlier))
        self._number = self._names.first_number()
        self._current = self._open_next(Fraction(0))  # deletes nothing: no frame has come yet

    def write(self, item: Rendered) -> None:
        """Write one picture, into the next file where it is time; see :meth:`Sink.write`."""
        now_s = item.frame.pts * item.frame.time_base
        if self._first_s is None:
            self._begin(now_s)
        elif now_s >= self._cut_s:
            self._cut(now_s)
        current = self._writing()
        if current.begun_at is None and self._context is not None and self._context.source.live:
            current.begun_at = utc_text(item.frame.captured_at)
        self._waiting.extend(item.frame.packets)
        packets = self._sorted_sound()
        frame = dataclasses.replace(item.frame, packets=packets)
        current.sink.write(dataclasses.replace(item, frame=frame))
        if self._before is not None and (
            not self._sound_due or now_s >= current.start_s + LATE_SOUND_S
        ):
            self._finish(self._before)

    def write_packets(self, packets: tuple[Packet, ...]) -> None:
        """Copy the sound after the last frame; see :meth:`Sink.write_packets`."""
        current = self._writing()
        self._waiting.extend(packets)
        rest = (*self._sorted_sound(), *self._waiting)
        self._waiting.clear()
        current.sink.write_packets(rest)

    def close(self) -> None:
        """Finish the files that are open; see :meth:`Sink.close`."""
        with contextlib.ExitStack() as last:
            for part in (self._current, self._before):
                if part is not None:
                    last.callback(self._finish, part)
        if self._lost_sound:
            _log.warning("%s: %d packets of sound came too late", self.name, self._lost_sound)
            self._lost_sound = 0

    def summary(self) -> SinkSummary | None:
        """Return the index of the files; see :meth:`Sink.summary`."""
        if not self._count:
            return None
        kept = [segment for segment in self._done if segment.path.exists()]
        lines = [
            f"{segment.path}  {segment.start_s:.3f} s + {segment.duration_s:.3f} s, "
            f"{segment.size_bytes / 1e6:.1f} MB"
            + (f", from {segment.begun_at}" if segment.begun_at else "")
            for segment in kept
        ]
        if len(lines) > 2 * _SHOWN:
            lines[_SHOWN:-_SHOWN] = [f"… {len(lines) - 2 * _SHOWN} more"]
        head = f"{self._count} segments of {float(self._segment.length_s):g} s"
        if self._deleted:
            head += f"; {self._deleted} oldest files deleted"
        details = {
            "segments": [{**dataclasses.asdict(one), "path": str(one.path)} for one in kept],
            "written": self._count,
            "deleted": self._deleted,
        }
        return SinkSummary(self.name, (head, *lines), details)

    def _writing(self) -> _Open:
        if self._current is None:
            raise SinkError(f"{self.name} is closed. Allowed: writing between open and close")
        return self._current

    def _begin(self, now_s: Fraction) -> None:
        current = self._writing()
        self._first_s = now_s
        self._cut_s = now_s + self._segment.length_s
        current.start_s = current.sink.origin_s = now_s
        self._make_room(self._segment.files)

    def _cut(self, now_s: Fraction) -> None:
        """End the current file before the picture at ``now_s`` and begin the next one."""
        current = self._writing()
        assert self._first_s is not None
        length_s = self._segment.length_s
        # Where whole files are missing, the last picture does not stand still for them.
        current.sink.end_at(now_s if now_s < self._cut_s + length_s else self._cut_s)
        self._cut_s = self._first_s + ((now_s - self._first_s) // length_s + 1) * length_s
        if self._before is not None:
            self._finish(self._before)
        # Not both: what fails now must not finish one file twice.
        self._before, self._current = current, None
        self._sound_due = set(self._sound)
        keep = self._segment.files
        self._make_room(None if keep is None else keep - 1)
        self._current = self._open_next(now_s)

    def _open_next(self, start_s: Fraction) -> _Open:
        assert self._context is not None
        self._number, path = self._names.free(self._number)
        self._number += 1
        sink = VideoFileSink(path, self._options)
        sink.origin_s = start_s
        sink.open(self._context)
        if self._segment.files is not None:
            self._begun += 1
            self._own[path] = self._begun
        return _Open(sink, start_s)

    def _make_room(self, keep: int | None) -> None:
        """Delete the oldest files but ``keep``."""
        if keep is None:
            return
        ring = self._ring()
        for path in ring[: max(0, len(ring) - keep)]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise sink_error(error, f"the ring: deleting {path}") from error
            self._deleted += 1
            self._own.pop(path, None)

    def _ring(self) -> list[Path]:
        """Return the files of the ring, oldest first; never one that is read."""
        assert self._context is not None
        own = self._context.source.path
        read = {os.path.realpath(path) for path in (*self._inputs, own) if path is not None}
        # A file that is being finished may have changed after the one that follows it.
        there = sorted(self._names.existing(), key=lambda path: self._own.get(path, 0))
        return [path for path in there if os.path.realpath(path) not in read]

    def _sorted_sound(self) -> tuple[Packet, ...]:
        """Return the waiting packets of the current file; hand on those of the one before."""
        current = self._writing()
        here: list[Packet] = []
        earlier: list[Packet] = []
        later: deque[Packet] = deque()
        for packet in self._waiting:
            begin = packet.pts if packet.pts is not None else packet.dts
            begin_s = current.start_s if begin is None else begin * packet.time_base
            if begin_s >= self._cut_s:
                later.append(packet)
            elif begin_s >= current.start_s or current.start_s == 0:
                here.append(packet)
            elif self._before is not None and begin_s >= self._before.start_s:
                earlier.append(packet)
            else:
                self._lost_sound += 1
            if begin_s >= current.start_s:
                self._sound_due.discard(packet.stream_index)
        while len(later) > MAX_HELD:
            later.popleft()
            self._lost_sound += 1
        self._waiting = later
        if self._before is not None and earlier:
            self._before.sink.write_packets(tuple(earlier))
        return tuple(here)

    def _finish(self, part: _Open) -> None:
        """Close a file and note it."""
        cut = part is self._before
        if cut:
            self._before = None
        else:
            self._current = None
        try:
            with contextlib.closing(part.sink):
                if cut:  # the sound between its last picture and the next file's first one
                    part.sink.write_packets(())
        finally:
            if part.sink.path.exists():
                self._count += 1
                self._done.append(
                    Segment(
                        part.sink.path,
                        float(part.start_s),
                        float(part.sink.end_s),
                        part.sink.path.stat().st_size,
                        part.begun_at,
                    )
                )
