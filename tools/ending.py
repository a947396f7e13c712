"""How a command ends: by what it did, by an error of one line, or by a signal."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rtseg.realtime.errors import exit_code_of

TERMINATED = 143


def open_closed_streams() -> None:
    """Give what is printed somewhere to go where a stream was closed before the start."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without UTF-8 gets a question mark for a dash, not an error for a table.
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def tidy_when_terminated() -> Iterator[None]:
    """Let SIGTERM end what runs inside as Ctrl-C does, so that no half file is left.

    A second one ends the process at once: the first may have come where Python, in the middle of
    an import, swallows what is raised.

    Raises:
        SystemExit: 143, on SIGTERM.
    """

    came = False

    def end(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal came
        if came:
            os._exit(TERMINATED)
        came = True
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say_failure(program: str, error: Exception) -> int:
    """Say in one line on standard error what went wrong, and return the exit code.

    Args:
        program: name of the command.
        error: what it was; those of ours have a ``reason``, some an ``exit_code``.
    """
    reason, text = _said(error)
    print(f"{program}: error: {reason}: {' '.join(text.split())}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # what could not be written is no second error when Python ends
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return exit_code_of(error)


def _said(error: Exception) -> tuple[str, str]:
    # Python's own have a reason, too: a sentence.
    if (reason := getattr(error, "reason", "")) and not isinstance(error, UnicodeError):
        return str(reason), str(error)
    if isinstance(error, MemoryError):
        return "NO_MEMORY", str(error) or "the machine has no memory left"
    if not isinstance(error, OSError):
        return "INTERNAL", f"unexpected {type(error).__name__}: {error} (--debug shows where)"
    what = f"{error.filename}: " if error.filename is not None else ""
    text = f"{what}{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "NO_SPACE", text
    if error.errno == errno.EPIPE:
        return "OUTPUT_CLOSED", text
    return ("PERMISSION_DENIED" if isinstance(error, PermissionError) else "NOT_FOUND"), text
