"""A container's bytes on standard input: ``cat drive.ts | rt-seg -``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.frame import Frame
from rtseg.realtime.sources.container import ContainerSource
from rtseg.realtime.sources.hwaccel import open_container
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pipe import ADVICE, Pipe, live_limits, read_once, told_when_behind
from rtseg.realtime.sources.probe import say_unused

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream


class StdinSource(ContainerSource):
    """Standard input, or another open file descriptor, as a file that cannot be searched.

    Args:
        options: what the user asked for; ``loop`` has no effect on a pipe. With ``live`` it is
            a camera's stream.
        fd: file descriptor to read from; it stays open.
    """

    def __init__(self, options: SourceOptions, fd: int | None = None) -> None:
        super().__init__("stdin", "stdin", options, live=options.live, sound=True)
        self._fd = fd
        self._waits = False

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
        limit_s = self._options.timeout_s if self._live else None
        pipe = Pipe(fd, "stdin", self._gate.is_shut, limit_s)
        self._options = read_once(pipe, self._options)
        self._waits = not self._live and not hasattr(pipe, "seek")
        more = live_limits() if self._live else {}
        container = open_container(pipe, self._options, self._name, **more)
        say_unused(container, self._options, self._name)
        return container

    def frames(self) -> Iterator[Frame]:
        """Yield every frame, see :class:`Source`; says when a pipe waits for the loop."""
        frames = super().frames()
        return told_when_behind(frames, self._name) if self._waits else frames

    def _explained(self, error: av.FFmpegError) -> SourceError:
        if type(error).__name__ == "InvalidDataError":
            return SourceError(f"stdin: no video that can be read. {ADVICE}", reason="NOT_A_VIDEO")
        return super()._explained(error)

    def _why_no_frames(self, container: InputContainer, video: VideoStream) -> str:
        return f"{super()._why_no_frames(container, video)}. {ADVICE}"
