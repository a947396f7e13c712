"""Video files."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.container import ContainerSource
from rtseg.realtime.sources.hwaccel import open_container
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.options import SourceOptions

if TYPE_CHECKING:
    import av
    from av.container import InputContainer


class FileSource(ContainerSource):
    """A video file: every frame, in order, with its sound and subtitles beside it.

    Args:
        path: the file.
        options: what the user asked for.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(
            shown(str(path)), stem_of(path.stem, "video"), options, live=False, sound=True
        )
        self._path = path

    def _connect(self) -> InputContainer:
        container = open_container(f"file:{self._path}", self._options, self._name)
        if container.format.name == "tty":
            # FFmpeg renders text files as the screen of a terminal.
            container.close()
            raise SourceError(f"{self._name}: a text file, not a video", reason="NOT_A_VIDEO")
        return container

    def _explained(self, error: av.FFmpegError) -> SourceError:
        try:
            empty = self._path.stat().st_size == 0
        except OSError:
            empty = False
        if empty:
            return SourceError(f"{self._name}: the file is empty", reason="NO_FRAMES")
        if error.errno == errno.EIO:
            return SourceError(f"{self._name}: it cannot be read to its end", reason="READ_FAILED")
        explained = super()._explained(error)
        if explained.reason == "FAILED":  # whatever FFmpeg stumbled over was in the file
            return SourceError(f"{explained}; the file is damaged", reason="NOT_A_VIDEO")
        return explained
