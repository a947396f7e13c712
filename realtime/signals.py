"""SIGINT and SIGTERM end a run in order; a second one ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import Protocol

_SIGNAL_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stoppable(Protocol):
    """What a signal ends in order."""

    def stop(self) -> None:
        """Ask to end; safe in a signal handler."""


class Signals:
    """Turns SIGINT and SIGTERM into an orderly end; a second one forces."""

    def __init__(self) -> None:
        self.pipeline: Stoppable | None = None
        self.code: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):  # not in the main thread: no signals to mind
            for number in _SIGNAL_CODES:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        code = _SIGNAL_CODES[signal.Signals(number)]
        if self.code is not None:
            os._exit(code)
        self.code = code
        if self.pipeline is None:  # nothing was written yet
            raise SystemExit(code)
        self.pipeline.stop()
