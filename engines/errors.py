"""The errors of this room. Every one carries a stable reason word."""

from __future__ import annotations


class EngineError(Exception):
    """An engine could not be found, opened or run.

    Args:
        message: one line: what was received, and what is allowed.
        reason: stable word for logs and scripts: ``NOT_FOUND``, ``ENGINE_DAMAGED``,
            ``ENGINE_MISMATCH``, ``ENGINE_UNSUPPORTED``, ``ENGINE_CLOSED``,
            ``PERMISSION_DENIED``, ``BACKEND_MISSING``, ``BAD_OPTION`` (wrong usage: exit code 2),
            ``BAD_INPUT``, ``BAD_OUTPUT``,
            ``NO_SPACE``, ``NO_MEMORY``, ``DEVICE_LOST`` or ``ENGINE_FAILED``.
    """

    def __init__(self, message: str, *, reason: str = "ENGINE_FAILED") -> None:
        super().__init__(message)
        self.reason = reason
