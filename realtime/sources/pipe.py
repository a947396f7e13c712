"""Reading a pipe so that whoever waits for its writer can be called back."""

from __future__ import annotations

import logging
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame
from rtseg.realtime.sources.options import SourceOptions

log = logging.getLogger(__name__)

POLL_MS = 200

BEHIND_S = 2.0
"""Of a pipe that is read as a file: how far behind its writer the reader falls until it is said."""

ADVICE = (
    "In a pipe, an MP4 must have its index in front (ffmpeg -movflags +faststart); "
    "MPEG-TS and Matroska always work"
)


class Pipe:
    """A readable that ends when ``is_over`` says so, and seeks only where the input can.

    Args:
        fd: file descriptor to read from; it stays open.
        name: what FFmpeg is told it is called.
        is_over: whether the reader is to stop waiting.
        limit_s: how long to wait for bytes, in seconds; None for as long as it takes.
    """

    def __init__(
        self, fd: int, name: str, is_over: Callable[[], bool], limit_s: float | None = None
    ) -> None:
        self.name = name
        self._fd = fd
        self._is_over = is_over
        self._limit_s = limit_s
        try:
            os.lseek(fd, 0, os.SEEK_CUR)
        except OSError:
            return
        self.seek = self._seek
        self.tell = lambda: os.lseek(fd, 0, os.SEEK_CUR)

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes once there are any; none at the end.

        Raises:
            SourceError: ``TIMEOUT``: nothing came within the limit.
        """
        begun_s = time.monotonic()
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not self._is_over():
            if poll.poll(POLL_MS):
                return os.read(self._fd, size)
            if self._limit_s is not None and time.monotonic() - begun_s > self._limit_s:
                raise SourceError(
                    f"{self.name}: no data within {self._limit_s:g} s (--timeout)",
                    reason="TIMEOUT",
                )
        return b""

    def _seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._fd, offset, whence)


def is_pipe(path: Path) -> bool:
    """Return whether a path is a pipe: a named one, or one that a shell made (``<(…)``)."""
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def open_pipe(path: Path) -> int:
    """Return a file descriptor of a pipe at once, whether anybody writes to it yet or not.

    Raises:
        OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(fd, True)
    return fd


def live_limits() -> dict[str, Any]:
    """Return arguments of ``av.open`` that keep a live pipe's first picture from waiting.

    FFmpeg's own limits are five seconds of what is being filmed, and a megabyte to tell Motion
    JPEG by.
    """
    limits = {"analyzeduration": "1000000", "fpsprobesize": "3", "formatprobesize": "200000"}
    return {"options": limits}


def read_once(pipe: Pipe, options: SourceOptions) -> SourceOptions:
    """Return ``options`` without ``loop``, with a warning, where the input cannot go back."""
    if options.loop == 1 or hasattr(pipe, "seek"):
        return options
    log.warning("%s: --loop has no effect, a pipe can be read only once", pipe.name)
    return replace(options, loop=1)


def told_when_behind(
    frames: Iterator[Frame], name: str, limit_s: float | None = None
) -> Iterator[Frame]:
    """Yield the frames; say so, once, when whoever takes them needs longer than they last.

    A file's frames can wait in the pipe. A camera's cannot: each is shown later than the one
    before, and nothing else would tell why.

    Args:
        frames: of a pipe that is not live.
        name: what the pipe is called.
        limit_s: seconds that the taker may be behind; None for :data:`BEHIND_S`.
    """
    taken_s, told = 0.0, False
    limit_s = BEHIND_S if limit_s is None else limit_s
    for frame in frames:
        if not told and taken_s - frame.pts_s > limit_s:
            told = True
            log.warning(
                "%s: comes faster than it is done, and no frame is left out. If a camera feeds "
                "it, pictures are shown later and later; --live shows the newest",
                name,
            )
        given_s = time.monotonic()
        yield frame
        taken_s += time.monotonic() - given_s
