"""Pictures as a source: a folder, a quoted glob, numbered files, or one alone."""

from __future__ import annotations

import dataclasses
import io
import itertools
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.engines.upright import Turner, upright_still
from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame, SourceInfo, now_ns
from rtseg.realtime.sources.find_images import look_for_images, say_left_out
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.options import SourceOptions, exact
from rtseg.realtime.sources.pyav import open_input
from rtseg.realtime.sources.source import Source
from rtseg.realtime.sources.timeline import DEFAULT_FPS

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)


class ImageSource(Source):
    """Pictures in natural order (``frame2`` before ``frame10``), one frame each.

    EXIF orientation is honoured. Pictures may differ in size; ``info`` tells the first's.
    One that cannot be read is skipped with a warning.

    Args:
        place: a folder, a glob, a pattern such as ``frame_%06d.png``, or a picture.
        options: ``fps`` (25 if None), ``start_s``, ``duration_s``, ``loop``, ``rotate`` and
            ``flip`` are heeded.
    """

    def __init__(self, place: str, options: SourceOptions) -> None:
        self._place = place
        self._name = shown(place)
        self._options = options
        self._files: list[Path] = []
        self._first: Frame | None = None
        self._frames: Iterator[Frame] = iter(())
        self._info: SourceInfo | None = None
        self._closed = False
        self.skipped = 0
        """Pictures that could not be read so far."""

    @property
    def info(self) -> SourceInfo:
        """What :meth:`open` returned."""
        if self._info is None:
            raise SourceError(f"{self._name}: not open; call open() first", reason="NOT_OPEN")
        return self._info

    def open(self) -> SourceInfo:
        """List the pictures and read the first one; see :class:`Source`."""
        if self._info is not None:
            return self._info
        if self._closed:
            raise SourceError(f"{self._name}: closed; make a new source", reason="CLOSED")
        options = self._options
        fps = DEFAULT_FPS
        if options.fps is not None:
            fps = exact(options.fps)
        files, videos = look_for_images(self._place)
        if videos:
            log.warning("%s: %s", self._name, say_left_out(videos))
        begin = -(-exact(options.start_s) * fps // 1)
        end = None
        if options.duration_s is not None:
            end = begin + -(-exact(options.duration_s) * fps // 1)
        self._files = files[begin:end]
        if not self._files:
            raise SourceError(
                f"{self._name}: --start {options.start_s:g} is past its end "
                f"({len(files)} pictures at {fps} frames per second)",
                reason="NO_FRAMES",
            )
        self._frames = self._read(fps)
        self._first = next(self._frames, None)
        if self._first is None:
            raise SourceError(
                f"{self._name}: none of its {len(self._files)} pictures can be read",
                reason="NO_FRAMES",
            )
        total = len(self._files) * options.loop if options.loop else None
        path = Path(self._place)
        stem = path.stem if len(files) == 1 or path.is_dir() else path.parent.name
        self._info = SourceInfo(
            name=self._name,
            stem=stem_of(stem, "images"),
            width=self._first.video.width,
            height=self._first.video.height,
            fps=fps,
            frames=total,
            duration_s=None if total is None else float(total / fps),
            live=False,
            time_base=1 / fps,
            path=path if path.is_file() else None,
            pictures=tuple(self._files),
        )
        return self._info

    def frames(self) -> Iterator[Frame]:
        """Yield every picture that can be read; see :class:`Source`."""
        _ = self.info
        first, self._first = self._first, None
        if first is not None and not self._closed:
            # It waited for the engine, which is no latency of the loop.
            yield dataclasses.replace(first, captured_ns=now_ns())
        while not self._closed and (frame := next(self._frames, None)) is not None:
            yield frame
        if self.skipped:
            log.warning("%s: %d unreadable pictures were skipped", self._name, self.skipped)

    def close(self) -> None:
        """End :meth:`frames` after the picture at hand."""
        self._closed = True

    def _read(self, fps: Fraction) -> Iterator[Frame]:
        index, position = 0, -1
        first: int | None = None
        for lap in itertools.count(1):
            before = index
            for file in self._files:
                position += 1
                begun_ns = now_ns()
                video = self._picture(file)
                if video is None:
                    continue
                first = position if first is None else first
                done_ns = now_ns()
                yield Frame(
                    index=index,
                    video=video,
                    pts=position - first,
                    time_base=1 / fps,
                    captured_ns=done_ns,
                    decode_ms=(done_ns - begun_ns) / 1e6,
                    path=file,
                )
                index += 1
            if lap == self._options.loop or index == before:
                return

    def _picture(self, file: Path) -> av.VideoFrame | None:
        import av

        try:
            # By content, from memory: FFmpeg reads meaning into names such as `a[1].png`.
            data = file.read_bytes()
            with open_input(io.BytesIO(data)) as container:
                frame: av.VideoFrame = next(container.decode(video=0))
        except (av.FFmpegError, OSError, IndexError, StopIteration) as error:
            self.skipped += 1
            why = error.strerror if isinstance(error, OSError | av.FFmpegError) else "no picture"
            log.warning("%s: skipped, cannot be read (%s)", shown(str(file)), why)
            return None
        turner = Turner(self._options.rotate, self._options.flip)
        picture = upright_still(frame, data, turner)
        picture.duration = 0  # a picture has none; the decoder makes one up
        return picture
