"""The progress line: a bar for a file, a status line for a live source."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.stale import stale_after_s, stale_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

REFRESH_S = 0.2


class ProgressLine:
    """Shows how far a run is, on stderr; a context manager.

    Args:
        info: what the source says of itself; its frame count makes the bar.
        profiler: the run's counters.
        total: frames to come, where the run ends earlier than the source.
        force: draw although stderr is no terminal.
    """

    def __init__(
        self, info: SourceInfo, profiler: Profiler, *, total: int | None, force: bool
    ) -> None:
        self._info = info
        self._profiler = profiler
        self._total = total if total is not None else info.frames
        self._force = force
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._next_s = 0.0

    def __enter__(self) -> ProgressLine:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = [
            TextColumn("{task.description}"),
            *(
                (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                if self._total
                else (TextColumn("{task.completed} frames"), TimeElapsedColumn())
            ),
            TextColumn("{task.fields[status]}"),
        ]
        console = Console(stderr=True, force_terminal=True if self._force else None)
        self._progress = Progress(*columns, console=console, transient=True, auto_refresh=False)
        self._task = self._progress.add_task(self._info.stem, total=self._total, status="")
        self._progress.start()
        return self

    def update(self) -> None:
        """Draw the line again, at most five times a second."""
        now_s = time.monotonic()
        if self._progress is None or self._task is None or now_s < self._next_s:
            return
        self._next_s = now_s + REFRESH_S
        p50_ms, _ = self._profiler.live_latency_ms()
        dropped = sum(self._profiler.dropped.values())
        status = f"{self._profiler.live_fps():.1f} frames/s  {p50_ms:.0f} ms"
        if dropped:
            status += f"  {dropped} dropped"
        age_s = self._profiler.last_frame_age_s() or 0.0
        if self._info.live and age_s > stale_after_s(self._info):
            status += f"  {stale_text(age_s)}"
        self._progress.update(self._task, completed=self._profiler.frames_out, status=status)
        self._progress.refresh()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
