"""Cutting short a call into FFmpeg from another thread.

FFmpeg asks a callback, about ten times a second, whether a blocking read should be given
up. PyAV's callback looks at nothing but the clock, so a stalled camera would hold its
reader, and with it the end of the program, for the whole time limit. Here the clock that
PyAV's callback reads runs fast for one thread, for as long as it takes to get that thread
out of its call. Where a PyAV version keeps its clock elsewhere, the time limit remains.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

_YEARS_S = 1e9
_PATIENCE_S = 2.0
_patching = threading.Lock()


class _FastClock:
    """Stands in for the ``time`` module: ``thread`` sees time racing, others do not."""

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._calls = itertools.count(1)

    def monotonic(self) -> float:
        now = time.monotonic()
        if threading.get_ident() == self._thread:
            # Ever later: a call that starts now must run out of time as well.
            now += next(self._calls) * _YEARS_S
        return now


class Gate:
    """Lets one thread at a time into FFmpeg, and another one get it out and shut the door.

    >>> gate = Gate()
    >>> with gate:                 # the reader, around each call
    ...     pass
    >>> gate.shut(lambda: None)    # anyone: no call runs when this returns
    True
    >>> gate.is_shut()
    True
    """

    def __init__(self) -> None:
        self._calls = threading.Lock()
        self._shut = threading.Event()
        self._caller = 0

    def is_shut(self) -> bool:
        """Whether :meth:`shut` was called."""
        return self._shut.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep; return True at once when the gate is shut."""
        return self._shut.wait(seconds)

    def __enter__(self) -> Gate:
        self._calls.acquire()
        self._caller = threading.get_ident()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls.release()

    def shut(self, release: Callable[[], None]) -> bool:
        """Get the reader out of its call, then run ``release`` while nobody is inside.

        Returns:
            False when the reader did not come out in time; it runs into its own limit.
        """
        self._shut.set()
        if self._calls.acquire(blocking=False):
            inside = True
        else:
            with _racing_clock(self._caller):
                inside = self._calls.acquire(timeout=_PATIENCE_S)
        if not inside:
            return False
        try:
            release()
        finally:
            self._calls.release()
        return True


def call_apart(function: Callable[[], T], gate: Gate, limit_s: float) -> T:
    """Run ``function`` in a thread of its own, so that Ctrl-C and ``gate`` can end it.

    A call into FFmpeg in the main thread would keep Python from seeing a signal until it
    returns; and several calls in a row would each have the whole time limit.

    Raises:
        InterruptedError: the gate was shut or the time was up.
    """
    deadline = time.monotonic() + limit_s
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="rtseg-open-source")
    thread.start()
    try:
        while thread.is_alive() and not gate.is_shut() and time.monotonic() < deadline:
            thread.join(0.05)
    finally:
        given_up = thread.is_alive()
        if given_up and thread.ident is not None:
            with _racing_clock(thread.ident):
                thread.join(_PATIENCE_S)
    if results:
        return results[0]
    if given_up:
        # Whatever error came of it is a consequence: FFmpeg calls a cut-off answer invalid.
        raise InterruptedError
    raise errors[0]


@contextmanager
def _racing_clock(thread: int) -> Iterator[None]:
    from av.container import core

    with _patching:
        module = getattr(core, "time", None)
        if module is not time:
            yield
            return
        core.time = _FastClock(thread)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            core.time = module  # type: ignore[attr-defined]
