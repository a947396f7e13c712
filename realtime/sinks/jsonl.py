"""One JSON object a line, one line a frame: what was seen, and how long each stage took."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np

from rtseg.engines.labels import ClassTable
from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import U8, Rendered
from rtseg.realtime.sinks.failure import sink_error
from rtseg.realtime.sinks.outfile import OutputFile, refuse_input
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.sinks.stdout import StandardOutput
from rtseg.realtime.wallclock import utc_text

VOID_NAME = "void"
"""Name of the pixels without a class."""


def class_shares(labels: U8, classes: ClassTable) -> dict[str, float]:
    """Return the share of the pixels of every class that is there, largest first.

    The shares add up to 1; ids without a class count as ``void``, also where a class has that
    name.

    Example:
        >>> from rtseg.engines.labels import CITYSCAPES
        >>> class_shares(np.array([[0, 0, 0, 255]], np.uint8), CITYSCAPES)
        {'road': 0.75, 'void': 0.25}
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    shares = {name: int(counts[index]) / labels.size for index, name in enumerate(classes.names)}
    without = int(counts[len(classes) :].sum()) / labels.size
    shares[VOID_NAME] = shares.get(VOID_NAME, 0.0) + without
    present = ((name, share) for name, share in shares.items() if share > 0)
    return dict(sorted(present, key=lambda entry: -entry[1]))


class JsonlFile:
    """A file of lines that several threads may write to. Each line is whole or not there.

    Args:
        path: the file, or the text ``-`` for standard output.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: the file exists and may not be overwritten (``EXISTS``).
        SinkError: it cannot be created.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self._name = str(path)
        self._file: OutputFile | StandardOutput = (
            StandardOutput() if path == "-" else OutputFile(Path(path), overwrite=overwrite)
        )
        self._lock = threading.Lock()

    def write(self, line: dict[str, object]) -> None:
        """Write one line.

        Raises:
            SinkError: it cannot be written.
        """
        # A path that is no UTF-8 has lone surrogates, which JSON can only escape.
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
        with self._lock:
            try:
                self._file.write(data)
            except OSError as error:
                raise sink_error(error, self._name) from error
            self._file.mark()

    def close(self) -> None:
        """Close the file after its last whole line. May be called more than once."""
        with self._lock:
            self._file.abandon()


class JsonlSink(Sink):
    """Writes ``index``, ``pts_s``, ``classes`` (share of the pixels) and ``stages_ms``.

    Of a live source also ``captured_at``: when the decoder handed the frame over, in UTC; of
    pictures ``file``: the path.
    Shares are of the network's own label map. Every line is on the disk before the next frame.

    Args:
        path: the file, or the text ``-`` for standard output.
        overwrite: whether an existing file may be replaced.
        shared: the file, where several sources write into one; whoever made it closes it.
        source: what ``source`` says in each line, where several sources write into one file.
    """

    wants_picture = False
    any_size = True

    def __init__(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        shared: JsonlFile | None = None,
        source: str | None = None,
    ) -> None:
        self.name = str(path)
        self._path = path
        self._overwrite = overwrite
        self._shared = shared
        self._source = source
        self._file: JsonlFile | None = None
        self._classes: ClassTable | None = None
        self._live = False

    def open(self, context: SinkContext) -> None:
        """Create the file; see :meth:`Sink.open`."""
        if self._path != "-":
            refuse_input(Path(self._path), context.source.path)
        self._classes = context.engine.classes
        self._live = context.source.live
        self._file = self._shared or JsonlFile(self._path, overwrite=self._overwrite)

    def write(self, item: Rendered) -> None:
        """Write one line; see :meth:`Sink.write`."""
        if self._file is None or self._classes is None:
            raise SinkError(f"{self.name} is closed. Allowed: writing between open and close")
        shares = class_shares(item.labels, self._classes)
        line: dict[str, object] = {} if self._source is None else {"source": self._source}
        line |= {"index": item.frame.index, "pts_s": round(item.frame.pts_s, 6)}
        if item.frame.path is not None:
            line["file"] = str(item.frame.path)
        if self._live:
            line["captured_at"] = utc_text(item.frame.captured_at)
        line |= {
            "classes": {name: round(share, 6) for name, share in shares.items()},
            "stages_ms": {name: round(value, 3) for name, value in item.stages_ms.items()},
        }
        self._file.write(line)

    def close(self) -> None:
        """Close the file after its last whole line; see :meth:`Sink.close`."""
        if self._file is not None and self._shared is None:
            self._file.close()
        self._file = None
