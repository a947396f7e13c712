"""The one interface of everything that yields frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from rtseg.realtime.frame import Frame, SourceInfo

if TYPE_CHECKING:
    import av


class SourceObserver(Protocol):
    """Hears what happens to a live source's connection; called from the reader's thread."""

    def stall(self) -> None:
        """Count that the source gave nothing for too long."""

    def lost(self) -> None:
        """Hear that the connection is gone; called again for each try that fails."""

    def reconnect(self) -> None:
        """Count that the source was lost and is back."""


class Source(ABC):
    """Yields upright frames in order; a context manager that lets go on exit.

    ``open`` connects and learns what :attr:`info` says; ``frames`` is iterated once, by
    one thread. ``close`` may be called from any other thread, more than once, and makes a
    waiting ``frames`` end within a second.
    """

    observer: SourceObserver | None = None
    """Who counts stalls and reconnects, if anybody; set before :meth:`frames` is iterated."""

    @abstractmethod
    def open(self) -> SourceInfo:
        """Connect and return what the source says of itself.

        Raises:
            SourceError: with the reason word of what is wrong.
        """

    @property
    @abstractmethod
    def info(self) -> SourceInfo:
        """What :meth:`open` returned."""

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Yield every frame until the source ends or is closed.

        A damaged frame in the middle of a file is skipped with a warning in the log.

        Raises:
            SourceError: the source broke, or had no frame at all (``NO_FRAMES``).
        """

    def remaining_packets(self) -> tuple[av.Packet[Any], ...]:
        """Return sound and subtitle packets that came after the last frame."""
        return ()

    @abstractmethod
    def close(self) -> None:
        """Let go of the device, file or connection."""

    def __enter__(self) -> Source:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
