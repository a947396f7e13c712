"""Live sources that end after a while (``--duration``)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rtseg.realtime.frame import Frame, SourceInfo
from rtseg.realtime.sources.source import Source, SourceObserver

if TYPE_CHECKING:
    import av


class LimitedSource(Source):
    """Ends a live source so many seconds after its first frame, frames or none.

    The clock decides, not the timestamps: a stream that is lost or stalled when its time is
    up ends all the same. A source that turns out not to be live heeds the limit itself, by
    its timestamps, and passes unchanged.

    Args:
        source: the source, not yet open.
        duration_s: seconds from its first frame.
    """

    def __init__(self, source: Source, duration_s: float) -> None:
        self._source = source
        self._duration_s = duration_s

    @property
    def observer(self) -> SourceObserver | None:
        """See :attr:`Source.observer`; it hears of the connections of the source within."""
        return self._source.observer

    @observer.setter
    def observer(self, observer: SourceObserver | None) -> None:
        self._source.observer = observer

    @property
    def info(self) -> SourceInfo:
        """What :meth:`open` returned."""
        return self._source.info

    def open(self) -> SourceInfo:
        """Connect; see :meth:`Source.open`."""
        return self._source.open()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of the first ``duration_s`` seconds; see :class:`Source`.

        Raises:
            SourceError: the source broke.
        """
        if not self.info.live:
            yield from self._source.frames()
            return
        end_ns: int | None = None
        timer = threading.Timer(min(self._duration_s, threading.TIMEOUT_MAX), self._source.close)
        timer.daemon = True  # a loop that gives up must not wait for it
        try:
            for frame in self._source.frames():
                if end_ns is None:
                    end_ns = frame.captured_ns + round(self._duration_s * 1e9)
                    timer.start()
                elif frame.captured_ns >= end_ns:
                    break
                yield frame
        finally:
            timer.cancel()
            if end_ns is not None:
                timer.join()  # it may be closing the source just now

    def remaining_packets(self) -> tuple[av.Packet[Any], ...]:
        """Return sound after the last frame, of a source that is not live."""
        return self._source.remaining_packets()

    def close(self) -> None:
        """Let go; see :meth:`Source.close`."""
        self._source.close()
