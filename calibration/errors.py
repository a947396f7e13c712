"""The errors of this room. Every one carries a stable reason word."""

from __future__ import annotations


class CalibrationError(Exception):
    """Data could not be read, or a network could not be calibrated or quantised.

    Args:
        message: one line: what was received, and what is allowed.
        reason: stable word for logs and scripts: ``NOT_FOUND``, ``NO_IMAGES``,
            ``BAD_DATA``, ``BAD_INPUT``, ``BAD_LABEL``, ``CLASS_MISMATCH``,
            ``BAD_NETWORK``, ``BAD_OPTION``, ``BAD_ACTIVATIONS``, ``ACCURACY_DROP``,
            ``CACHE_DAMAGED``, ``CACHE_MISMATCH`` or ``NO_SPACE``.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
