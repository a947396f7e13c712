"""Files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: OSError) -> bool:
    """Tell whether a file could not be written because there is no space, or no more is allowed."""
    return error.errno in _FULL


def partial_name(path: Path, ending: str = "") -> Path:
    """Return where a file is written until it is whole.

    Args:
        path: the file.
        ending: how the name has to end, for whoever writes under certain names only.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.partial{ending}")


@contextmanager
def replacing(path: Path, ending: str = "") -> Iterator[Path]:
    """Give a name beside a file's place; what is written there replaces the file at the end.

    Where anything is raised meanwhile (Ctrl-C, too), what was written goes, and what was there
    before is untouched.

    Args:
        path: the file; its folder is there.
        ending: as in :func:`partial_name`.

    Raises:
        OSError: it cannot be put into place.

    Example:
        >>> with replacing(Path("table.json")) as partial:          # doctest: +SKIP
        ...     partial.write_text("{}")
    """
    partial = partial_name(path, ending)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_whole(path: Path, *parts: bytes | memoryview, sync: bool = False) -> None:
    """Write a file, all or nothing.

    Args:
        path: the file; its folder is there.
        parts: what it holds, one after the other.
        sync: whether to wait until the disk has it, so that it is whole after a power cut, too.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        for part in parts:
            file.write(part)
        if sync:
            file.flush()
            os.fsync(file.fileno())
