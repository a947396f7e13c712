"""What is at a path, with the permission to see it as the error it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)


def stat_mode(path: str | Path) -> int:
    """Return the type and permission bits of a file (:mod:`stat`); 0 where there is none.

    Unlike ``Path.exists()`` and its like, which take a folder that may not be read for an empty
    one from Python 3.14 on.

    Raises:
        OSError: it cannot be told, as by ``PermissionError``.
        ValueError: no file can be called so.
    """
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in _ABSENT:
            return 0
        raise
