"""What is at a path, with what hides it as the error that it is.

``Path.exists()`` and its like take what may not be seen, or has a name that no file can have, for
absent from Python 3.14 on. Who would then say that there is no such file uses these.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)


def mode_of(path: str | Path) -> int:
    """Return the type and permission bits of what is there (:mod:`stat`); 0 where nothing is.

    Raises:
        OSError: it cannot be told, as by ``PermissionError``.
        ValueError: there is a null character in it.
    """
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in _ABSENT:
            return 0
        raise


def is_there(path: str | Path) -> bool:
    """Return whether anything is there; see :func:`mode_of`."""
    return mode_of(path) != 0


def is_file(path: str | Path) -> bool:
    """Return whether a file is there; see :func:`mode_of`."""
    return stat.S_ISREG(mode_of(path))


def is_folder(path: str | Path) -> bool:
    """Return whether a folder is there; see :func:`mode_of`."""
    return stat.S_ISDIR(mode_of(path))
