"""The one interface of everything that takes results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rtseg.engines.spec import EngineSpec
from rtseg.realtime.frame import Rendered, SourceInfo

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class SinkContext:
    """What a sink learns before its first frame.

    Attributes:
        source: what the source says of itself.
        engine: the engine's spec: classes, palette, size.
        picture_width: columns of the pictures to come (even), in pixels.
        picture_height: rows of the pictures to come (even), in pixels.
        sample_aspect_ratio_of_picture: whether the source's pixel aspect ratio still holds
            for the picture (it does for every view of one frame).
    """

    source: SourceInfo
    engine: EngineSpec
    picture_width: int
    picture_height: int
    sample_aspect_ratio_of_picture: bool = True


@dataclass(frozen=True)
class SinkSummary:
    """What an output says of itself in the closing report.

    Attributes:
        name: the output's name, without any password.
        lines: for people.
        details: the same for machines; JSON's types only.
    """

    name: str
    lines: tuple[str, ...]
    details: dict[str, Any]


@dataclass(frozen=True)
class SinkCounts:
    """What an output counts while it runs.

    Attributes:
        sent: pictures that went out.
        dropped: pictures that this output left out, by reason.
        connections: how often a receiver was connected.
    """

    sent: int
    dropped: dict[str, int]
    connections: int


class Sink(ABC):
    """Takes rendered frames in order; a context manager that finishes its output on exit.

    All calls come from one thread, the sink's own. ``close`` after an error or an
    interrupt leaves what was written so far readable.
    """

    wants_picture: bool = True
    """Whether the sink needs ``Rendered.picture``; when no sink does, none is made."""

    presents: bool = False
    """Whether ``write`` returns once a person sees the frame (a window): the end-to-end
    clock then stops after ``write``, otherwise when the frame is handed to it."""

    any_size: bool = False
    """Whether each picture may have a size of its own; where every output of a stream allows it,
    pictures of mixed sizes keep theirs, else all get the first one's."""

    name: str = "sink"
    """What the user asked for, for people."""

    @abstractmethod
    def open(self, context: SinkContext) -> None:
        """Create the output.

        Raises:
            SinkError: with the reason word of what is wrong.
        """

    @abstractmethod
    def write(self, item: Rendered) -> None:
        """Write one frame.

        Raises:
            SinkError: with the reason word of what is wrong, such as ``NO_SPACE``.
        """

    def ready(self, timeout_s: float) -> bool:
        """Return whether a frame is wanted, waiting up to ``timeout_s`` seconds until one is.

        What comes meanwhile waits outside, where of a live source newer frames take its place.
        """
        return True

    def idle(self) -> None:  # noqa: B027
        """Do what cannot wait for the next frame (a window's events).

        Called some thirty times a second, in the sink's thread, while no frame comes.
        """

    def hear(self, packets: tuple[av.Packet[Any], ...]) -> None:  # noqa: B027
        """Take sound and subtitle packets as soon as they are read, which may not wait.

        They come again with a frame that is written, if one follows, or after the last one.
        Called in the source's thread while the sink is open; never written to.
        """

    def write_packets(self, packets: tuple[av.Packet[Any], ...]) -> None:  # noqa: B027
        """Take the sound and subtitle packets that came after the last frame."""

    def summary(self) -> SinkSummary | None:
        """Return what the closing report shall say of this output, if anything.

        Called from another thread, once the output is closed or given up.
        """
        return None

    def counts(self) -> SinkCounts | None:
        """Return what this output counts, if anything; may be called from any thread."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Finish the output. May be called more than once."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
