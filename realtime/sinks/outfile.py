"""Files that outputs write: refused when they exist, and never left damaged."""

from __future__ import annotations

import os
from pathlib import Path

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sinks.failure import sink_error

if os.name == "nt":  # pragma: no cover
    _BINARY = os.O_BINARY  # type: ignore[attr-defined,unused-ignore]
else:
    _BINARY = 0


def refuse_input(path: Path, source: Path | None) -> None:
    """Refuse an output that is the very file the source reads, by whatever name.

    Args:
        path: the output.
        source: the file that is read, None where the source is none.

    Raises:
        UsageError: it is (``SAME_FILE``).
    """
    if source is None:
        return
    try:
        same = path.exists() and source.exists() and path.samefile(source)
    except OSError:
        return
    if same:
        raise UsageError(
            f"the output {path} is the input itself. Allowed: another name", reason="SAME_FILE"
        )


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse a file that exists, unless it may be overwritten.

    A device or pipe (``/dev/stdout``) is no such file: nothing in it can be lost.

    Raises:
        UsageError: it exists (``EXISTS``).
    """
    other = os.path.exists(path) and not os.path.isfile(path)
    if not overwrite and os.path.lexists(path) and not other:
        raise UsageError(
            f"{path} exists already. Allowed: another name, or -y/--overwrite", reason="EXISTS"
        )


class OutputFile:
    """A file that is written, for outputs and for PyAV alike (``write``, ``seek``, ``tell``).

    An existing file keeps its content until the first byte is written, and a file that got
    none is removed, so a run that fails at once changes nothing on the disk.

    After a failed write everything is refused; :meth:`abandon` then cuts the file back to the
    last :meth:`mark`, where its content was whole.

    Raises:
        UsageError: the file exists and may not be overwritten (``EXISTS``).
        SinkError: the file cannot be created.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        refuse_existing(path, overwrite)
        self.path = path
        self.name = str(path)
        self.failure: OSError | None = None
        self._created = not os.path.lexists(path)
        self._emptied = self._created
        self._position = 0
        self._end = 0
        self._marked = 0
        try:
            # Special files (/dev/full, a named pipe) are written as they are.
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | _BINARY, 0o666)
        except OSError as error:
            raise sink_error(error, str(path)) from error

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._descriptor < 0

    @property
    def end(self) -> int:
        """How many bytes the file has."""
        return self._end

    def write(self, data: bytes) -> int:
        """Write all of ``data`` or raise ``OSError``."""
        if self.failure is not None:
            raise self.failure
        try:
            if not self._emptied:
                self._emptied = True
                self._truncate(0)
            rest = memoryview(data)
            while rest:
                count = os.write(self._descriptor, rest)
                self._position += count
                rest = rest[count:]
        except OSError as error:
            self.failure = error
            raise
        finally:
            self._end = max(self._end, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place in the file and return it."""
        start = {0: 0, 1: self._position, 2: self._end}[whence]
        self._position = os.lseek(self._descriptor, start + offset, os.SEEK_SET)
        return self._position

    def tell(self) -> int:
        """Return the place in the file."""
        return self._position

    def mark(self) -> None:
        """Say that all that was written so far is whole."""
        self._marked = self._end

    def close(self) -> None:
        """Close the file; remove it if it was made here and nothing was written."""
        if self.closed:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._created and self._end == 0:
            self.path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Cut the file back to the last mark and close it."""
        if self.closed:
            return
        if self._emptied:
            self._truncate(self._marked)
            self._end = self._marked
        self.close()

    def _truncate(self, length: int) -> None:
        try:
            os.ftruncate(self._descriptor, length)
        except OSError:  # a pipe or device has no length
            return


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file; on failure remove what there is of it.

    Raises:
        SinkError: it cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        if os.path.isfile(path):
            path.unlink(missing_ok=True)
        raise sink_error(error, str(path)) from error
