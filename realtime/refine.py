"""Between the network and the picture: what may change labels or frames before anyone sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rtseg.realtime.frame import U8, Frame


@dataclass(frozen=True)
class Seen:
    """A frame that the network has seen.

    Attributes:
        frame: the frame; its picture is shared with the decoder and never written to.
        raw: uint8, H×W at the engine's size: the class ids as the network gave them.
        labels: the class ids that go on to picture and outputs.
        stages_ms: milliseconds of each stage so far.
    """

    frame: Frame
    raw: U8
    labels: U8
    stages_ms: dict[str, float] = field(default_factory=dict)


class Refiner(ABC):
    """Changes what was seen of one stream, frame by frame; belongs to one thread.

    It may hold frames back (to look ahead), but loses none and keeps their order. A stream
    has a refiner of its own: they remember what came before.
    """

    def open(self, *, may_wait: bool) -> None:  # noqa: B027
        """Hear, before the first frame, whether frames may be held back.

        Args:
            may_wait: False where a source is live or a person looks on.
        """

    @abstractmethod
    def push(self, seen: Seen) -> Sequence[Seen]:
        """Take a frame and return those that are ready, oldest first."""

    def flush(self) -> Sequence[Seen]:
        """Return the frames still held back, oldest first: no more will come."""
        return ()


class Chain(Refiner):
    """Several refiners, one after the other.

    Args:
        links: the first takes what the network gave, the last one's results go on.
    """

    def __init__(self, links: Iterable[Refiner]) -> None:
        self._links = tuple(links)

    def open(self, *, may_wait: bool) -> None:
        """Tell every link; see :meth:`Refiner.open`."""
        for link in self._links:
            link.open(may_wait=may_wait)

    def push(self, seen: Seen) -> Sequence[Seen]:
        """Take a frame; see :meth:`Refiner.push`."""
        return self._through(self._links, [seen])

    def flush(self) -> Sequence[Seen]:
        """Empty every link, first to last; see :meth:`Refiner.flush`."""
        ready: list[Seen] = []
        for position, link in enumerate(self._links):
            ready += self._through(self._links[position + 1 :], link.flush())
        return ready

    @staticmethod
    def _through(links: Sequence[Refiner], items: Sequence[Seen]) -> list[Seen]:
        for link in links:
            items = [ready for item in items for ready in link.push(item)]
        return list(items)
