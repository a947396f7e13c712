"""Class ids without loss: one PNG a frame, or a gray video."""

from __future__ import annotations

import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rtseg.engines.labels import VOID_ID, ClassTable
from rtseg.realtime.errors import RealtimeError, SinkError, UsageError
from rtseg.realtime.frame import U8, Rendered
from rtseg.realtime.nearest import scale_nearest
from rtseg.realtime.sinks.failure import coding_errors, sink_error
from rtseg.realtime.sinks.images import encode_image, refuse_matches
from rtseg.realtime.sinks.label_names import LabelNames
from rtseg.realtime.sinks.outfile import OutputFile, refuse_input, write_whole
from rtseg.realtime.sinks.sink import Sink, SinkContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

LabelIds = Literal["trainids", "cityscapes"]

UNLABELED_ID = 0
"""What void is among the label ids of Cityscapes (``unlabeled``)."""


def label_table(classes: ClassTable, ids: LabelIds) -> U8:
    """Return the 256 output ids of the 256 possible class ids.

    ``trainids`` keeps class ids and makes all else 255; ``cityscapes`` gives the data set's
    own ids (7 for road) and 0, ``unlabeled``, for all else.

    Args:
        classes: of the engine.
        ids: ``trainids`` or ``cityscapes``.

    Returns:
        uint8 (256,).

    Raises:
        UsageError: the engine's classes have no data-set ids, or ``ids`` is unknown.
    """
    if ids == "trainids":
        table = np.full(256, VOID_ID, np.uint8)
        table[: len(classes)] = np.arange(len(classes))
    elif ids == "cityscapes":
        if not classes.label_ids:
            raise UsageError(
                "the engine's classes have no data-set ids, so --label-ids cityscapes is not "
                "possible. Allowed: trainids"
            )
        table = np.full(256, UNLABELED_ID, np.uint8)
        table[: len(classes)] = classes.label_ids
    else:
        raise UsageError(f"unknown label ids {ids!r}. Allowed: trainids, cityscapes")
    return table


class LabelSink(Sink):
    """Writes ``<stem>_000123_labelTrainIds.png`` (or ``_labelIds.png``) for every frame.

    Pictures give theirs their own names (:class:`~rtseg.realtime.sinks.label_names.LabelNames`).

    The images have the frame's size, so that they lie on the frames pixel by pixel; ids are
    enlarged by exact nearest neighbour (:func:`~rtseg.realtime.nearest.nearest_index`).

    Args:
        directory: where the images go; made if its parent exists.
        ids: ``trainids`` (the network's class ids, 255 = void) or ``cityscapes``.
        overwrite: whether label images of the same source may be replaced.
        several: whether other sources write into the same directory.
    """

    wants_picture = False
    any_size = True

    def __init__(
        self,
        directory: str | Path,
        ids: LabelIds = "trainids",
        *,
        overwrite: bool = False,
        several: bool = False,
    ) -> None:
        self.name = str(directory)
        self._several = several
        self._directory = Path(directory)
        self._ids: LabelIds = ids
        self._overwrite = overwrite
        self._table: U8 | None = None
        self._names: LabelNames | None = None

    def open(self, context: SinkContext) -> None:
        """Make the directory; see :meth:`Sink.open`."""
        self._table = label_table(context.engine.classes, self._ids)
        try:
            self._directory.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise SinkError(
                f"{self.name} is a file. Allowed: a directory, or a file ending in .mkv",
                reason="EXISTS",
            ) from error
        except OSError as error:
            raise sink_error(error, self.name) from error
        kind = "labelTrainIds" if self._ids == "trainids" else "labelIds"
        self._names = LabelNames(context.source, kind, several=self._several)
        refuse_matches(self._directory, self._names.matches, self._overwrite)
        self._refuse_pictures(context.source.pictures, self._names)

    def _refuse_pictures(self, pictures: Iterable[Path], names: LabelNames) -> None:
        folder = os.path.realpath(self._directory)
        for picture in pictures:
            if names.matches(picture.name) and os.path.realpath(picture.parent) == folder:
                raise UsageError(
                    f"the output {self.name} may write over {picture}, which is read. "
                    "Allowed: another directory",
                    reason="SAME_FILE",
                )

    def write(self, item: Rendered) -> None:
        """Write one image; see :meth:`Sink.write`."""
        if self._table is None or self._names is None:
            raise SinkError(f"{self.name} is closed. Allowed: writing between open and close")
        ids = _ids_at_frame_size(item, self._table)
        write_whole(self._directory / self._names.next(item.frame), encode_image(ids, ".png"))

    def close(self) -> None:
        """Stop; see :meth:`Sink.close`."""
        self._table = None


class LabelVideoSink(Sink):
    """Writes class ids as a gray video: FFV1 (RFC 9043), 8 bits, lossless, in Matroska.

    One gray level is one id, 255 (or 0 with ``cityscapes``) is void. Size and time stamps are
    the frames', the latter in Matroska's milliseconds.

    Args:
        path: the file, ending in ``.mkv``.
        ids: as for :class:`LabelSink`.
        overwrite: whether an existing file may be replaced.
    """

    wants_picture = False

    def __init__(
        self, path: str | Path, ids: LabelIds = "trainids", *, overwrite: bool = False
    ) -> None:
        self.name = str(path)
        self.path = Path(path)
        self._ids: LabelIds = ids
        self._overwrite = overwrite
        self._table: U8 | None = None
        self._file: OutputFile | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._time_base = Fraction(1, 1000)
        self._last_pts = -1

    def open(self, context: SinkContext) -> None:
        """Create the file; see :meth:`Sink.open`."""
        import av

        self._table = label_table(context.engine.classes, self._ids)
        refuse_input(self.path, context.source.path)
        self._file = OutputFile(self.path, overwrite=self._overwrite)
        info = context.source
        self._time_base = info.time_base
        try:
            self._container = av.open(
                self._file,
                "w",
                format="matroska",
                container_options={"cluster_time_limit": "1000", "flush_packets": "1"},
            )
            stream: VideoStream = self._container.add_stream(
                "ffv1",
                rate=info.fps or Fraction(30),
                options={"level": "3", "g": "1", "slicecrc": "1"},
                width=info.width,
                height=info.height,
                time_base=self._time_base,
            )
            stream.codec_context.pix_fmt = "gray"
        except coding_errors() as error:
            self._let_go()
            raise SinkError(
                f"cannot encode {self.name} as ffv1: {error}", reason="CODEC_UNSUPPORTED"
            ) from error
        stream.codec_context.color_range = 2
        self._stream = stream

    def write(self, item: Rendered) -> None:
        """Encode one label map; see :meth:`Sink.write`."""
        import av

        if self._table is None or self._stream is None:
            raise SinkError(f"{self.name} is closed. Allowed: writing between open and close")
        ids = _ids_at_frame_size(item, self._table)
        wanted = (self._stream.codec_context.height, self._stream.codec_context.width)
        if ids.shape != wanted:
            ids = scale_nearest(ids, *wanted)
        frame = av.VideoFrame.from_ndarray(ids, format="gray")
        frame.color_range = 2
        pts = round(item.frame.pts * item.frame.time_base / self._time_base)
        self._last_pts = max(pts, self._last_pts + 1)
        frame.pts, frame.time_base = self._last_pts, self._time_base
        try:
            self._mux(self._stream.encode(frame))
        except coding_errors() as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Finish the file; see :meth:`Sink.close`."""
        container, stream, file = self._container, self._stream, self._file
        if container is None or file is None:
            return
        try:
            if stream is not None and file.failure is None and self._last_pts >= 0:
                self._mux(stream.encode(None))
                container.close()
                file.mark()
        except coding_errors() as error:
            raise self._failed(error) from error
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Let go of everything; a file that is whole stays as it is."""
        container, file = self._container, self._file
        self._container = self._stream = self._table = None
        if file is not None:
            file.abandon()
        if container is not None:
            try:
                container.close()  # writes nothing: the file is closed
            except coding_errors() as error:
                _log.debug("%s: %s", self.name, error)

    def _mux(self, packets: Iterable[av.Packet[Any]]) -> None:
        assert self._container is not None
        assert self._file is not None
        for packet in packets:
            self._container.mux(packet)
            self._file.mark()

    def _failed(self, error: Exception) -> RealtimeError:
        failure = self._file.failure if self._file is not None else None
        return sink_error(failure if failure is not None else error, self.name)


def _ids_at_frame_size(item: Rendered, table: U8) -> U8:
    video = item.frame.video
    width, height = item.frame.source_size or (video.width, video.height)
    return scale_nearest(table[item.labels], height, width)
