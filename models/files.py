"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from rtseg.models.errors import ModelError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, and the folders it lies in, all or nothing.

    Raises:
        ModelError: ``NO_SPACE`` or ``PERMISSION_DENIED``; what was there before is untouched.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise ModelError(
            f"cannot write {path}: {error.strerror or error}. "
            f"Allowed: a folder {'with more space' if full else 'that may be written'}",
            reason="NO_SPACE" if full else "PERMISSION_DENIED",
        ) from error
