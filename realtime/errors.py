"""The errors of the loop. Every one carries a stable reason word and an exit code."""

from __future__ import annotations


class RealtimeError(Exception):
    """The loop cannot go on.

    Args:
        message: one line: what was received, and what is allowed.
        reason: stable word for logs and scripts, such as ``NOT_FOUND``,
            ``PERMISSION_DENIED``, ``CONNECTION_FAILED``, ``AUTH_FAILED``, ``TIMEOUT``,
            ``CODEC_UNSUPPORTED``, ``PROTOCOL_UNSUPPORTED``, ``NOT_A_VIDEO``, ``NOT_A_CAMERA``,
            ``BUSY``, ``NO_FRAMES``, ``READ_FAILED``, ``ENDED``, ``NO_SPACE``, ``NO_MEMORY``,
            ``NO_BANDWIDTH``,
            ``EXISTS``, ``SAME_FILE``, ``NOT_WRITABLE``, ``WRITE_FAILED``, ``ENCODE_FAILED``,
            ``BAD_NAME``, ``IS_A_DIRECTORY``, ``BROKEN_PIPE``, ``OUTPUT_CLOSED``,
            ``NO_DISPLAY``, ``NOT_INSTALLED``, ``LIBRARY_CLASH``, ``NOT_OPEN``, ``CLOSED``,
            ``BAD_INPUT``, ``BAD_OPTION``, ``USAGE``, ``INTERNAL`` (a fault of the program) or
            ``FAILED``.
    """

    exit_code = 1

    def __init__(self, message: str, *, reason: str = "FAILED") -> None:
        super().__init__(message)
        self.reason = reason


class UsageError(RealtimeError):
    """What was asked for makes no sense: an option's value, a form that is not known."""

    exit_code = 2

    def __init__(self, message: str, *, reason: str = "USAGE") -> None:
        super().__init__(message, reason=reason)


class SourceError(RealtimeError):
    """A source cannot be opened or read."""


class SinkError(RealtimeError):
    """An output cannot be opened or written."""


_USAGE_REASONS = ("BAD_CONFIG", "BAD_OPTION")


def exit_code_of(error: BaseException) -> int:
    """Return a command's exit code for an error: its own, or what its reason word says."""
    by_reason = 2 if getattr(error, "reason", "") in _USAGE_REASONS else 1
    return int(getattr(error, "exit_code", by_reason))
