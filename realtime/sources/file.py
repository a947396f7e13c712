"""Video files."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame
from rtseg.realtime.sources.container import ContainerSource
from rtseg.realtime.sources.hwaccel import open_container
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pipe import (
    ADVICE,
    Pipe,
    is_pipe,
    live_limits,
    open_pipe,
    read_once,
    told_when_behind,
)
from rtseg.realtime.sources.probe import say_unused
from rtseg.realtime.sources.unfinished import lacks_index

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

log = logging.getLogger(__name__)


class FileSource(ContainerSource):
    """A video file: every frame, in order, with its sound and subtitles beside it.

    A named pipe is read like standard input: it cannot be searched, and may be live.

    Args:
        path: the file.
        options: what the user asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(
            shown(str(path)),
            stem_of(path.stem, "video"),
            options,
            live=options.live and is_pipe(path),
            sound=True,
            path=path,
        )
        self._place = path
        self._pipe: int | None = None

    def _connect(self) -> InputContainer:
        target = self._target()
        more = live_limits() if self._live else {}
        container = open_container(target, self._options, self._name, **more)
        if container.format.name == "tty":
            # FFmpeg renders text files as the screen of a terminal.
            container.close()
            raise SourceError(f"{self._name}: a text file, not a video", reason="NOT_A_VIDEO")
        if not container.streams.video and lacks_index(self._place):
            container.close()
            raise self._unfinished()
        say_unused(container, self._options, self._name)
        return container

    def _target(self) -> str | Pipe:
        if not is_pipe(self._place):
            if self._options.live:
                log.warning("%s: --live has no effect, it is no pipe", self._name)
            return f"file:{self._place}"
        # FFmpeg would wait for a writer where nothing can call it back.
        try:
            self._pipe = open_pipe(self._place)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise SourceError(f"{self._name}: {why}", reason="PERMISSION_DENIED") from None
        limit_s = self._options.timeout_s if self._live else None
        pipe = Pipe(self._pipe, str(self._place), self._gate.is_shut, limit_s)
        self._options = read_once(pipe, self._options)
        return pipe

    def frames(self) -> Iterator[Frame]:
        """Yield every frame, see :class:`Source`; says when a pipe waits for the loop."""
        frames = super().frames()
        waits = self._pipe is not None and not self._live
        return told_when_behind(frames, self._name) if waits else frames

    def _release(self) -> None:
        super()._release()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _explained(self, error: av.FFmpegError) -> SourceError:
        if self._pipe is not None and type(error).__name__ == "InvalidDataError":
            text = f"{self._name}: no video that can be read. {ADVICE}"
            return SourceError(text, reason="NOT_A_VIDEO")
        try:
            found = self._place.stat()
            empty = stat.S_ISREG(found.st_mode) and found.st_size == 0
        except OSError:
            empty = False
        if empty:
            return SourceError(f"{self._name}: the file is empty", reason="NO_FRAMES")
        if error.errno == errno.EIO:
            return SourceError(f"{self._name}: it cannot be read to its end", reason="READ_FAILED")
        if type(error).__name__ == "InvalidDataError" and lacks_index(self._place):
            return self._unfinished()
        explained = super()._explained(error)
        if explained.reason == "FAILED":  # whatever FFmpeg stumbled over was in the file
            return SourceError(f"{explained}; the file is damaged", reason="NOT_A_VIDEO")
        return explained

    def _unfinished(self) -> SourceError:
        return SourceError(
            f"{self._name}: its index is missing, since the recording was not finished (power "
            "loss, a full disk). untrunc can rebuild it with a whole file of the same camera",
            reason="NOT_A_VIDEO",
        )
