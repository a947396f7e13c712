"""How a command ends: by what it did, by an error of one line, or by a signal."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rtseg.realtime.ending import give_up_output, reason_and_text
from rtseg.realtime.errors import UsageError, exit_code_of
from rtseg.realtime.parser import Parser, parsed
from rtseg.realtime.sinks.network import without_secrets

TERMINATED = 143


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


def parse_command(
    parser: Callable[[], Parser], arguments: Sequence[str] | None, program: str
) -> argparse.Namespace | int:
    """Return what was typed for a command, or its exit code where there is nothing to do.

    Args:
        parser: makes the command's parser.
        arguments: what was typed after the command; None takes it from the process.
        program: name of the command, for the error line.
    """
    try:
        return parsed(parser(), arguments)
    except UsageError as error:
        return say_failure(program, error)
    except BrokenPipeError:  # whoever reads us has enough, as in "--help | head"
        give_up_output()
        return 0
    except OSError as error:  # what --help or --version print cannot be written
        return say_failure(program, error)


def say_failure(program: str, error: Exception, typed: Sequence[str] | None = None) -> int:
    """Say in one line on standard error what went wrong, and return the exit code.

    Args:
        program: name of the command.
        error: what it was; those of ours have a ``reason``, some an ``exit_code``.
        typed: what was typed after the command, whose passwords are not repeated; None takes it
            from the process.
    """
    reason, text = reason_and_text(error)
    line = " ".join(without_secrets(text, sys.argv[1:] if typed is None else typed).split())
    print(f"{program}: error: {reason}: {line}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        give_up_output()
    return exit_code_of(error)
