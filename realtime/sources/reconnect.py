"""Live sources that come back: when the connection is lost, a new one is made."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame, SourceInfo, now_ns
from rtseg.realtime.memory import give_back_memory
from rtseg.realtime.sources.backoff import HOPELESS, HOPELESS_TRIES, STEADY_S, Backoff
from rtseg.realtime.sources.source import Source
from rtseg.realtime.sources.templates import same_streams

if TYPE_CHECKING:
    import av

    Packet = av.Packet[Any]

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90_000)
"""Of every live source that comes back: fine enough for whatever rate the next one has."""


@dataclass(frozen=True)
class _Last:
    """Where the newest frame was placed."""

    index: int
    pts: int
    captured_ns: int


def _without_history(error: SourceError) -> SourceError:
    """Drop what an error remembers of where it came from.

    Its traceback holds the frames of the connection that broke, and with them a decoder, its
    threads and its pictures, for as long as the error is kept: that is until the next one.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class ReconnectingSource(Source):
    """Reads a live source, and connects anew when it breaks, ends or stalls.

    The first connection is the caller's: its failure is an error at once, unless the source
    is to be ``patient``. Later ones are
    tried with capped exponential back-off (:class:`Backoff`), without limit or
    ``attempts`` times in a row; a server that keeps refusing the password, the permission
    or the codec ends the source after :data:`HOPELESS_TRIES` tries in any case.

    Frames count on across connections, and their timestamps follow the clock: a picture
    after ten seconds without one is ten seconds later. A connection may bring another size,
    codec or rate; :attr:`info` keeps what the first one said. A source that turns out not
    to be live (a file behind HTTP) passes unchanged and is read once.

    Args:
        connect: makes a source, not yet open; called once for each connection.
        attempts: how many tries in a row until it is given up; None for no limit.
        backoff: how long to wait between tries.
        patient: whether the first connection is tried like the later ones, too.
    """

    def __init__(
        self,
        connect: Callable[[], Source],
        *,
        attempts: int | None = None,
        backoff: Backoff | None = None,
        patient: bool = False,
    ) -> None:
        if attempts is not None and attempts < 1:
            raise ValueError(f"attempts is 1 or more, or None. Received: {attempts}")
        self._connect = connect
        self._attempts = attempts
        self._backoff = backoff or Backoff()
        self._patient = patient
        self._source = connect()
        self._swapping = threading.Lock()
        self._closed = threading.Event()
        self._info: SourceInfo | None = None
        self._last: _Last | None = None
        self._size = (0, 0)
        self._same_sound = True

    @property
    def info(self) -> SourceInfo:
        """What :meth:`open` returned."""
        return self._source.info if self._info is None else self._info

    def open(self) -> SourceInfo:
        """Make the first connection; see :meth:`Source.open`."""
        if self._info is None:
            info = self._first_connection()
            self._size = (info.width, info.height)
            self._info = dataclasses.replace(info, time_base=TIME_BASE) if info.live else info
        return self._info

    def _first_connection(self) -> SourceInfo:
        try:
            return self._source.open()
        except SourceError as error:
            if not self._patient or self._closed.is_set():
                raise
            extra = {"reason": error.reason}
            log.warning("%s: %s; trying again", error.reason, str(error), extra=extra)
            if not self._come_back(error):
                raise SourceError("closed while opening", reason="CLOSED") from None
            return self._source.info

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of every connection; see :class:`Source`.

        Raises:
            SourceError: the source is not live and broke, or it did not come back.
        """
        if not self.info.live:
            yield from self._source.frames()
            return
        while True:
            begun_ns = now_ns()
            try:
                yield from self._placed()
                lost = SourceError(f"{self.info.name}: the stream ended", reason="ENDED")
            except SourceError as error:
                lost = _without_history(error)
            if self._closed.is_set():
                return
            if now_ns() - begun_ns > STEADY_S * 1e9:
                self._backoff.reset()
            if lost.reason == "TIMEOUT" and self.observer is not None:
                self.observer.stall()
            # Its text: a log that keeps its records would keep the error.
            text, extra = str(lost), {"reason": lost.reason}
            log.warning("%s: %s; reconnecting", lost.reason, text, extra=extra)
            if not self._come_back(lost):
                return

    def remaining_packets(self) -> tuple[av.Packet[Any], ...]:
        """Return sound after the last frame, of a source that is not live."""
        return self._source.remaining_packets()

    def close(self) -> None:
        """Let go; a wait for the next try ends at once."""
        self._closed.set()
        with self._swapping:
            source = self._source
        source.close()

    def _placed(self) -> Iterator[Frame]:
        """Yield the frames of the present connection on the timeline of all of them."""
        shift: int | None = None
        for frame in self._source.frames():
            pts = round(frame.pts * frame.time_base / TIME_BASE)
            index = frame.index
            if self._last is not None:
                last = self._last
                if shift is None:  # the first frame after a gap comes when the clock says
                    gap_s = Fraction(frame.captured_ns - last.captured_ns, 1_000_000_000)
                    shift = last.pts + round(gap_s / TIME_BASE) - pts
                pts = max(pts + shift, last.pts + 1)
                index = last.index + 1
            shift = shift or 0
            packets = self._moved(frame.packets, shift)
            placed = dataclasses.replace(
                frame, index=index, pts=pts, time_base=TIME_BASE, packets=packets
            )
            self._last = _Last(index, pts, frame.captured_ns)
            yield placed

    def _moved(self, packets: tuple[Packet, ...], shift: int) -> tuple[Packet, ...]:
        """Return a frame's sound, moved as the frame was; none where it is another one now."""
        if not self._same_sound:
            return ()
        for packet in packets if shift else ():
            ticks = round(shift * TIME_BASE / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return packets

    def _come_back(self, lost: SourceError) -> bool:
        """Connect anew; False where the source was closed meanwhile.

        Raises:
            SourceError: every try allowed has failed.
        """
        self._source.close()
        self._note_lost()
        begun_ns = now_ns()
        refused: Counter[str] = Counter()
        error, tries = lost, 0
        while True:
            if self._closed.wait(self._backoff.next_s()):
                return False
            tries += 1
            try:
                info = self._open_next()
            except SourceError as failure:
                if self._closed.is_set():
                    return False
                # The same word again and again for a week helps nobody.
                level = logging.INFO if failure.reason == error.reason else logging.WARNING
                error = _without_history(failure)
                self._note_lost()
                log.log(
                    level,
                    "%s: %s; try %d failed",
                    error.reason,
                    str(error),
                    tries,
                    extra={"reason": error.reason},
                )
                refused = Counter({error.reason: refused[error.reason] + 1})
                if error.reason in HOPELESS and refused[error.reason] >= HOPELESS_TRIES:
                    raise
                if self._attempts is not None and tries >= self._attempts:
                    raise
                continue
            if info is None:
                return False
            self._say_back(info, (now_ns() - begun_ns) / 1e9, tries)
            return True

    def _note_lost(self) -> None:
        if self.observer is not None:
            self.observer.lost()

    def _open_next(self) -> SourceInfo | None:
        source = self._connect()
        with self._swapping:
            if self._closed.is_set():
                return None
            self._source = source
        info = source.open()
        if self._info is not None and not info.live:
            source.close()  # an HLS stream that has ended: its last minute is no news
            raise SourceError(f"{info.name}: it has ended: a recording is left", reason="ENDED")
        if self._info is not None:
            self._same_sound = same_streams(info.passthrough, self._info.passthrough)
            if not self._same_sound:
                log.warning("%s: the sound changed and is left out", info.name)
        return info

    def _say_back(self, info: SourceInfo, away_s: float, tries: int) -> None:
        if self.observer is not None and self._info is not None:
            self.observer.reconnect()
        give_back_memory()  # of the connection that was lost
        size = (info.width, info.height)
        changed = f", now {size[0]}x{size[1]}" if size != self._size else ""
        self._size = size
        log.warning(
            "RECONNECTED: %s: back after %.1f s, %d %s%s",
            info.name,
            away_s,
            tries,
            "try" if tries == 1 else "tries",
            changed,
            extra={"reason": "RECONNECTED"},
        )
