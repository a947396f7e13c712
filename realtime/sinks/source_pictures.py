"""``--record``: the pictures as they came, beside those that the loop makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import Rendered
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.sinks.failure import sink_error
from rtseg.realtime.sinks.resolve import SinkOptions, open_sink, parse_sink
from rtseg.realtime.sinks.sink import Sink, SinkContext, SinkCounts, SinkSummary
from rtseg.realtime.view import ViewOptions, picture_size

if TYPE_CHECKING:
    import av

_AS_IT_CAME = ViewOptions(view="input")


class SourcePicturesSink(Sink):
    """Writes each frame without anything drawn on it, encoded like other videos, with the sound.

    With ``--redact`` frames are covered here as well: nothing uncovered leaves the loop.

    Args:
        text: a video file, a pattern with ``--segment``, or a directory (``<stem>_input.mp4``).
        options: of every output.

    Raises:
        UsageError: another kind of output, or a file that exists and may not be overwritten.
    """

    wants_picture = False

    def __init__(self, text: str, options: SinkOptions) -> None:
        target = parse_sink(text)
        if target.kind not in ("video", "directory"):
            raise UsageError(
                "--record writes a video: FILE.mp4, FILE.mkv, FILE.mov or a directory. "
                f"Received: {text!r}"
            )
        self.name = text
        self._folder = Path(target.text) if target.kind == "directory" else None
        self._make: Callable[[str], Sink] = lambda named: open_sink(named, options)
        self._inner = None if self._folder is not None else self._make(text)
        self._renderer: Renderer | None = None

    def open(self, context: SinkContext) -> None:
        """Create the output."""
        source = context.source
        if self._folder is not None:
            try:
                self._folder.mkdir(exist_ok=True)
            except OSError as error:
                raise sink_error(error, str(self._folder)) from error
            self._inner = self._make(str(self._folder / f"{source.stem}_input.mp4"))
            self.name = self._inner.name
        width, height = picture_size("input", source.width, source.height)
        self._renderer = Renderer(context.engine.classes)
        self._opened.open(replace(context, picture_width=width, picture_height=height))

    def write(self, item: Rendered) -> None:
        """Write one frame as it came."""
        assert self._renderer is not None
        picture = self._renderer.render(item.frame, item.labels, options=_AS_IT_CAME)
        self._opened.write(replace(item, picture=picture))

    def ready(self, timeout_s: float) -> bool:
        """Return whether a frame is wanted."""
        return self._opened.ready(timeout_s)

    def idle(self) -> None:
        """Do what cannot wait."""
        self._opened.idle()

    def hear(self, packets: tuple[av.Packet[Any], ...]) -> None:
        """Take sound as soon as it is read."""
        self._opened.hear(packets)

    def write_packets(self, packets: tuple[av.Packet[Any], ...]) -> None:
        """Take the sound after the last frame."""
        self._opened.write_packets(packets)

    def summary(self) -> SinkSummary | None:
        """Return what the output says of itself."""
        return self._inner.summary() if self._inner is not None else None

    def counts(self) -> SinkCounts | None:
        """Return what the output counts."""
        return self._inner.counts() if self._inner is not None else None

    def close(self) -> None:
        """Finish the output."""
        if self._inner is not None:
            self._inner.close()

    @property
    def _opened(self) -> Sink:
        assert self._inner is not None
        return self._inner
