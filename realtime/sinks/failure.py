"""Which reason word an output's failure has, and what the user is told."""

from __future__ import annotations

import errno

from rtseg.realtime.errors import SinkError

_REASONS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("NO_SPACE", "the disk is full; what is whole of it so far is kept"),
    errno.EDQUOT: ("NO_SPACE", "the disk quota is used up; what is whole of it so far is kept"),
    errno.EFBIG: ("NO_SPACE", "the file system takes no larger file; what is whole of it is kept"),
    errno.EACCES: ("PERMISSION_DENIED", "no permission to write there"),
    errno.EPERM: ("PERMISSION_DENIED", "no permission to write there"),
    errno.EROFS: ("PERMISSION_DENIED", "the file system is read-only"),
    errno.ENOENT: ("NOT_FOUND", "its directory does not exist; allowed: a path in an existing one"),
    errno.ENOTDIR: ("NOT_FOUND", "a part of its path is no directory"),
    errno.EISDIR: ("IS_A_DIRECTORY", "a directory of that name is in the way"),
    errno.ENAMETOOLONG: ("BAD_NAME", "the name is too long"),
    errno.EPIPE: ("BROKEN_PIPE", "the reader has gone"),
}


def coding_errors() -> tuple[type[Exception], ...]:
    """Return what PyAV raises: many of FFmpeg's errors are neither OSError nor ValueError.

    Numbers that FFmpeg has no room for are an OverflowError.
    """
    import av

    return av.error.FFmpegError, OSError, ValueError, OverflowError


def sink_error(error: BaseException, what: str) -> SinkError:
    """Return the failure of the output ``what`` as one line with its reason word."""
    number = getattr(error, "errno", None)
    if number in _REASONS:
        reason, explanation = _REASONS[number]
        return SinkError(f"cannot write {what}: {explanation}", reason=reason)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return SinkError(f"cannot write {what}: {text.splitlines()[0]}", reason="WRITE_FAILED")
