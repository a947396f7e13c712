"""All streams in one picture, for one set of outputs."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from rtseg.engines.spec import EngineSpec
from rtseg.realtime.delivery import Delivery
from rtseg.realtime.errors import RealtimeError, SinkError
from rtseg.realtime.frame import Frame, Rendered, SourceInfo, now_ns
from rtseg.realtime.mosaic import Planes, Tile, compose, layout
from rtseg.realtime.outputs import Outputs
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.sink import Sink, SinkContext, SinkSummary
from rtseg.realtime.sinks.stale import REMARK_S, stale_after_s, stale_text
from rtseg.realtime.slot import DropPolicy

if TYPE_CHECKING:
    import av

_log = logging.getLogger("rtseg.realtime")

FPS = Fraction(30)
"""How many pictures a second are made of live streams at most."""

TIME_BASE = Fraction(1, 90_000)
POLL_S = 0.05
FINISH_S = 20.0
"""How long outputs may take to finish."""

AHEAD = 2
"""How many frames of a file may wait for their time in the picture."""

LONG_S = 1.0
"""A picture that is to be seen for longer is not shown to its end when the run is stopped."""

_NO_LABELS = np.full((1, 1), 255, np.uint8)


class Grid(ABC):
    """Puts the newest pictures of all streams into one, and that one into outputs.

    Each stream gets a :class:`GridTile` as one of its outputs. An output of the grid that
    fails is left out while others work; with the last one every tile fails.

    Args:
        names: what the streams are called, in order.
        sinks: the grid's own outputs, at least one.
        spec: of the engine.
    """

    live: bool
    """Whether the picture shows what is now; otherwise it has the time of the files."""

    def __init__(self, names: Sequence[str], sinks: Sequence[Sink], spec: EngineSpec) -> None:
        self._spec = spec
        self._outputs = Outputs(sinks, self._output_failed)
        self.size, cells = layout(len(names))
        self.changed = threading.Condition()
        self.tiles = [
            GridTile(self, name, Tile(cell, spec.classes))
            for name, cell in zip(names, cells, strict=True)
        ]
        self.profiler = Profiler()
        """Counts the grid's own pictures."""
        self.failure: BaseException | None = None
        self.stop_asked: Callable[[], bool] = lambda: False
        """Whether the run is to end before its sources do."""
        self.paused: Callable[[], bool] = lambda: False
        """Whether a viewer has paused the run, so that old pictures are no fault."""
        self._closing = False
        self._stopped = False
        self._index = 0
        self._thread = threading.Thread(target=self._guarded, name="rtseg-grid")

    def open(self) -> None:
        """Open the outputs where that can be done now, and begin.

        Raises:
            SinkError: an output cannot be opened; all are closed again.
        """
        try:
            self._open_now()
        except BaseException:
            self._finish()
            raise
        self._thread.start()

    def missed(self) -> dict[str, dict[str, int]]:
        """Return how many of the grid's pictures outputs did not get, by output and reason."""
        lost = self.profiler.missed
        if dropped := self.profiler.dropped:  # by all of them
            lost["grid"] = dropped
        return lost

    def close(self) -> None:
        """Write what there is, and finish the outputs."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(2 * FINISH_S)
            if self._thread.is_alive() and self.failure is None:
                self.failure = RealtimeError("the grid did not finish", reason="TIMEOUT")

    def ended(self, number: int, why: str = "ended") -> None:
        """Hear that a stream gives no more pictures, and why, in a word or two."""
        tile = self.tiles[number]
        with self.changed:
            if tile.over is None or why != "ended":
                tile.over = why
                self.changed.notify_all()

    def summaries(self) -> list[SinkSummary]:
        """Return what the outputs say of themselves."""
        return self._outputs.summaries()

    @abstractmethod
    def take(self, tile: GridTile, item: Rendered) -> None:
        """Take a stream's picture; may wait until it was shown."""

    @abstractmethod
    def _open_now(self) -> None:
        """Open what can be opened before the streams are."""

    @abstractmethod
    def _compose(self) -> None:
        """Make pictures until the grid is closed."""

    def check(self) -> None:
        """Raise what ended the outputs, if anything did."""
        if self.failure is not None and not self._working:
            raise self.failure

    @property
    def _working(self) -> bool:
        return not self._stopped and self._outputs.working

    def _open_sinks(self, fps: Fraction) -> None:
        width, height = self.size
        info = SourceInfo(
            name=f"{len(self.tiles)} sources",
            stem="grid",
            width=width,
            height=height,
            fps=fps,
            live=self.live,
            time_base=TIME_BASE,
        )
        context = SinkContext(info, self._spec, width, height)
        policy: DropPolicy = "latest" if self.live else "block"
        self._outputs.open(context, policy, lambda: self._closing or self.stop_asked())

    def _output_failed(self, error: BaseException) -> None:
        reason = getattr(error, "reason", "INTERNAL")
        with self.changed:
            if self.failure is None:
                self.failure = error
            self.changed.notify_all()
        if self._working:
            _log.error("%s: %s; the other outputs go on", reason, error, extra={"reason": reason})

    def _guarded(self) -> None:
        try:
            self._compose()
        except BaseException as error:
            if self.failure is None:
                self.failure = error
        finally:
            with self.changed:
                self._stopped = True
                self.changed.notify_all()
            self._finish()

    def _finish(self) -> None:
        deadline_s = time.monotonic() + FINISH_S
        self._outputs.finish()
        for thread in self._outputs.threads:
            thread.join(max(0.1, deadline_s - time.monotonic()))
            if thread.is_alive() and self.failure is None:
                name = thread.name.removeprefix("rtseg-sink-")
                self.failure = RealtimeError(
                    f"{name} did not finish within {FINISH_S:.0f} s", reason="TIMEOUT"
                )

    def _put(self, parts: Sequence[Planes], pts_s: float, captured_ns: int) -> Delivery:
        begun_ns = now_ns()
        cells = [tile.tile.cell for tile in self.tiles]
        picture = compose(self.size, list(zip(cells, parts, strict=True)))
        pts = round(pts_s / TIME_BASE)
        picture.pts, picture.time_base = pts, TIME_BASE
        frame = Frame(self._index, picture, pts, TIME_BASE, captured_ns)
        self._index += 1
        self.profiler.frame_in(captured_ns)
        stages_ms = {"render": (now_ns() - begun_ns) / 1e6}
        item = Rendered(frame, _NO_LABELS, picture, stages_ms)
        return self._outputs.deliver(item, self.profiler)


class GridTile(Sink):
    """One stream's place in a grid, as an output of that stream."""

    def __init__(self, grid: Grid, name: str, tile: Tile) -> None:
        self.name = f"grid-{name}"
        self.title = name
        self.tile = tile
        self.info: SourceInfo | None = None
        self.shown: Rendered | None = None
        self.waiting: deque[Rendered] = deque()
        self.over: str | None = None
        self.fresh = False
        self.end_s = 0.0
        self.lasts = False
        self._grid = grid

    @property
    def presents(self) -> bool:  # type: ignore[override]
        """Whether files are played at their own pace: where the grid shows what is now."""
        return self._grid.live

    def open(self, context: SinkContext) -> None:
        """Begin; see :meth:`Sink.open`."""
        with self._grid.changed:
            self.info = context.source
            self._grid.changed.notify_all()

    def write(self, item: Rendered) -> None:
        """Give a picture to the grid; see :meth:`Sink.write`."""
        if item.picture is None:
            raise SinkError("the grid needs pictures. Received: none", reason="BAD_INPUT")
        self._grid.take(self, item)

    def close(self) -> None:
        """End; see :meth:`Sink.close`."""
        self._grid.ended(self._grid.tiles.index(self))

    def draw(self) -> Planes:
        """Return the tile as it is now."""
        lines, dim = [self.title], False
        item, info = self.shown, self.info
        if self.over is not None and not (self.waiting or self.fresh or self.lasts):
            lines.append(self.over)
            dim = True
        elif item is None or info is None:
            lines.append("no picture yet")
        elif info.live:
            age_s = (now_ns() - item.frame.captured_ns) / 1e9
            if age_s > stale_after_s(info) and not self._grid.paused():
                lines.append(stale_text(age_s))
                dim = True
        picture: av.VideoFrame | None = None if item is None else item.picture
        self.fresh = False
        ratio = Fraction(1) if info is None else info.sample_aspect_ratio
        return self.tile.draw(picture, ratio, lines, dim=dim)


class LiveGrid(Grid):
    """A grid that shows what is now, at most :data:`FPS` pictures a second.

    A stream's frame counts as presented when a picture that holds it was handed to the
    outputs. Pictures that are no longer now are dimmed and say how old they are.
    """

    live = True

    def __init__(self, names: Sequence[str], sinks: Sequence[Sink], spec: EngineSpec) -> None:
        super().__init__(names, sinks, spec)
        self._shown: dict[int, Rendered] = {}
        self._dirty = False

    def take(self, tile: GridTile, item: Rendered) -> None:
        """Show a stream's picture; returns once it was handed to the outputs."""
        key = id(tile)
        with self.changed:
            tile.shown, tile.fresh = item, True
            self._dirty = True
            self.changed.notify_all()
            self.changed.wait_for(
                lambda: self._shown.get(key) is item or self._closing or not self._working
            )
        self.check()

    def _open_now(self) -> None:
        self._open_sinks(FPS)

    def _compose(self) -> None:
        begun_ns = now_ns()
        due_s = time.monotonic()
        while not self._closing:
            with self.changed:
                self.changed.wait_for(lambda: self._dirty or self._closing, REMARK_S)
            self._pause(due_s - time.monotonic())
            due_s = max(due_s + float(1 / FPS), time.monotonic())
            with self.changed:
                if not self._working:
                    return
                self._dirty = False
                parts = [tile.draw() for tile in self.tiles]
                shown = {id(tile): tile.shown for tile in self.tiles if tile.shown is not None}
            captured_ns = now_ns()
            self._put(parts, (captured_ns - begun_ns) / 1e9, captured_ns)
            with self.changed:
                self._shown = shown
                self.changed.notify_all()

    def _pause(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while not self._closing and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, POLL_S))


class FileGrid(Grid):
    """A grid of files alone: each picture shows them at the same moment of their own time.

    No file runs ahead of another, and nothing is left out, however slow the engine is. The
    rate is that of the fastest file.
    """

    live = False

    def take(self, tile: GridTile, item: Rendered) -> None:
        """Take a picture; waits while enough wait for their time."""
        with self.changed:
            self.changed.wait_for(
                lambda: len(tile.waiting) < AHEAD or self._closing or not self._working
            )
            tile.waiting.append(item)
            self.changed.notify_all()
        self.check()

    def _open_now(self) -> None:
        """Nothing yet: the rate is that of the files."""

    def _compose(self) -> None:
        with self.changed:
            self.changed.wait_for(
                lambda: self._closing or all(t.info or t.over for t in self.tiles)
            )
        rates = [tile.info.fps for tile in self.tiles if tile.info and tile.info.fps]
        if not any(tile.info for tile in self.tiles):
            return
        fps = max(rates, default=Fraction(25))
        self._open_sinks(fps)
        number = 0
        while self._working and self._advance(float(number / fps)):
            if self.stop_asked() and self._is_still(float(number / fps)):
                return
            parts = [tile.draw() for tile in self.tiles]
            self._put(parts, float(number / fps), now_ns())
            number += 1

    def _is_still(self, time_s: float) -> bool:
        """Return whether no tile has a new picture now or soon."""
        with self.changed:
            return not any(
                tile.fresh or (tile.waiting and tile.waiting[0].frame.pts_s <= time_s + LONG_S)
                for tile in self.tiles
            )

    def _advance(self, time_s: float) -> bool:
        """Bring every tile to a moment; return whether there is anything left to show."""
        slack_s = 1e-6
        going_on = False
        for tile in self.tiles:
            while True:
                with self.changed:
                    self.changed.wait_for(
                        lambda tile=tile: tile.waiting or tile.over or self._closing  # type: ignore[misc]
                    )
                    if not tile.waiting:
                        tile.lasts = tile.end_s > time_s + slack_s
                        going_on |= tile.lasts
                        break
                    if tile.waiting[0].frame.pts_s > time_s + slack_s:
                        going_on = True
                        break
                    tile.shown, tile.fresh = tile.waiting.popleft(), True
                    tile.end_s = tile.shown.frame.pts_s + self._lasting_s(tile, tile.shown)
                    going_on = True
                    self.changed.notify_all()
        return going_on

    @staticmethod
    def _lasting_s(tile: GridTile, item: Rendered) -> float:
        """Return how long a picture is to be seen where none follows."""
        if item.frame.lasts_s is not None:
            return float(item.frame.lasts_s)
        fps = tile.info.fps if tile.info is not None else None
        return float(1 / (fps or Fraction(25)))
