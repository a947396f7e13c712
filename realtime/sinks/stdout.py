"""Standard output as an output: ``-``."""

from __future__ import annotations

import sys
from typing import BinaryIO


class StandardOutput:
    """Standard output, as outputs and PyAV write it: no seeking. It stays open."""

    name = "-"

    def __init__(self) -> None:
        self._stream: BinaryIO = sys.stdout.buffer
        self.failure: OSError | None = None
        self.closed = False
        self.end = 0

    def write(self, data: bytes) -> int:
        """Write all of ``data``, at once, or raise ``OSError``."""
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            self.failure = error
            raise
        return len(data)

    def mark(self) -> None:
        """Do nothing: what was written is gone."""

    def abandon(self) -> None:
        """Write nothing more."""
        self.closed = True
