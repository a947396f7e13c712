"""A container's bytes on standard input: ``cat drive.ts | rt-seg -``."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.sources.container import ContainerSource
from rtseg.realtime.sources.hwaccel import open_container
from rtseg.realtime.sources.options import SourceOptions

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_POLL_MS = 200
_ADVICE = (
    "In a pipe, an MP4 must have its index in front (ffmpeg -movflags +faststart); "
    "MPEG-TS and Matroska always work"
)


class StdinSource(ContainerSource):
    """Standard input, or another open file descriptor, as a file that cannot be searched.

    Args:
        options: what the user asked for; ``loop`` has no effect on a pipe.
        fd: file descriptor to read from; it stays open.
    """

    def __init__(self, options: SourceOptions, fd: int | None = None) -> None:
        super().__init__("stdin", "stdin", options, live=False, sound=True)
        self._fd = fd

    def _connect(self) -> InputContainer:
        fd = self._fd
        if fd is None:
            try:
                fd = sys.stdin.fileno()
            except (AttributeError, OSError, ValueError):
                raise SourceError("stdin: closed, nothing to read", reason="NOT_FOUND") from None
        if os.isatty(fd):
            raise UsageError(
                "stdin: a terminal, not a video; pipe a container into it (cat drive.ts | …)"
            )
        return open_container(_Pipe(fd, lambda: self._gate.is_shut()), self._options, self._name)

    def _explained(self, error: av.FFmpegError) -> SourceError:
        if type(error).__name__ == "InvalidDataError":
            return SourceError(f"stdin: no video that can be read. {_ADVICE}", reason="NOT_A_VIDEO")
        return super()._explained(error)

    def _why_no_frames(self, container: InputContainer, video: VideoStream) -> str:
        return f"{super()._why_no_frames(container, video)}. {_ADVICE}"


class _Pipe:
    """A readable that ends when ``is_over`` says so, and seeks only where the input can."""

    name = "stdin"

    def __init__(self, fd: int, is_over: Callable[[], bool]) -> None:
        self._fd = fd
        self._is_over = is_over
        try:
            os.lseek(fd, 0, os.SEEK_CUR)
        except OSError:
            return
        self.seek = self._seek
        self.tell = lambda: os.lseek(fd, 0, os.SEEK_CUR)

    def read(self, size: int) -> bytes:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not self._is_over():
            if poll.poll(_POLL_MS):
                return os.read(self._fd, size)
        return b""

    def _seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._fd, offset, whence)
