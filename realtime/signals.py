"""SIGINT, SIGTERM and SIGHUP end a run in order; a second one ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Protocol

_SIGNAL_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
if hasattr(signal, "SIGHUP"):  # Windows has none
    _SIGNAL_CODES[signal.SIGHUP] = 129


class Stoppable(Protocol):
    """What a signal ends in order."""

    def stop(self) -> None:
        """Ask to end; safe in a signal handler."""


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into an orderly end; a second one forces.

    Attributes:
        pipeline: what is to end; until it is set nothing was written, and the process ends at
            once.
        code: the exit code of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.pipeline: Stoppable | None = None
        self.code: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):  # not in the main thread: no signals to mind
            for number in _SIGNAL_CODES:
                if signal.getsignal(number) is signal.SIG_IGN:
                    continue  # as nohup asks for
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        code = _SIGNAL_CODES[signal.Signals(number)]
        if self.code is not None or self.pipeline is None:
            # Never an exception: raised inside the import machinery it would be swallowed, and
            # leave the import lock locked.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)
        self.code = code
        self.pipeline.stop()
