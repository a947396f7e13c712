"""Test pictures and anything else FFmpeg's filters can draw."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sources.container import ContainerSource
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pyav import open_input

if TYPE_CHECKING:
    from av.container import InputContainer

TESTSRC = "testsrc=size=640x360:rate=30"


def is_live(graph: str) -> bool:
    """Return whether a graph keeps the clock: it has the ``realtime`` filter.

    >>> is_live("testsrc,realtime"), is_live("testsrc=rate=25")
    (True, False)
    """
    return re.search(r"(?<![\w-])a?realtime(?![\w-])", graph) is not None


class LavfiSource(ContainerSource):
    """A filter graph without input, such as ``testsrc=size=1280x720:rate=25``.

    Endless unless the graph or ``duration_s`` ends it, and as fast as its reader unless the
    graph contains the ``realtime`` filter, which makes it live.

    Args:
        graph: FFmpeg's filter graph.
        options: what the user asked for.
        name: what to call it; the graph itself if None.
    """

    def __init__(self, graph: str, options: SourceOptions, name: str | None = None) -> None:
        first = re.split(r"[=,;\[\]@]", graph.strip("[] "), maxsplit=1)[0]
        super().__init__(
            shown(f"lavfi:{graph}" if name is None else name),
            stem_of(first, "lavfi"),
            options,
            live=is_live(graph),
        )
        self._graph = graph

    def _connect(self) -> InputContainer:
        import av

        try:
            return open_input(self._graph, format="lavfi")
        except av.FFmpegError as error:
            raise UsageError(
                f"{self._name}: no filter graph that FFmpeg accepts "
                f"({(error.strerror or '').lower()}); for example: lavfi:testsrc=size=640x360"
            ) from None
