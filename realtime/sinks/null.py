"""No output: for measuring."""

from __future__ import annotations

from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import Rendered
from rtseg.realtime.sinks.sink import Sink, SinkContext


class NullSink(Sink):
    """Takes frames and forgets them.

    Args:
        wants_picture: whether pictures are rendered for it, so that a measurement holds
            rendering.
    """

    name = "null"

    any_size = True

    def __init__(self, *, wants_picture: bool = True) -> None:
        self.wants_picture = wants_picture
        self.frames = 0
        self._open = False

    def open(self, context: SinkContext) -> None:
        """Start counting; see :meth:`Sink.open`."""
        self._open = True

    def write(self, item: Rendered) -> None:
        """Count one frame; see :meth:`Sink.write`."""
        if not self._open:
            raise SinkError("null is closed. Allowed: writing between open and close")
        self.frames += 1

    def close(self) -> None:
        """Stop; see :meth:`Sink.close`."""
        self._open = False
