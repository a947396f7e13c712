"""The one exception family of the networks' room."""

from __future__ import annotations


class ModelError(Exception):
    """A failure while a network is built, trained, exported or judged.

    Attributes:
        reason: a stable word that scripts may test (``NOT_FOUND``, ``BAD_DATA``,
            ``BAD_CONFIG``, ``BAD_WEIGHTS``, ``CLASS_MISMATCH``, ``NAN_LOSS``,
            ``NO_SPACE``, ``MISSING_PACKAGE``, ``UNSUPPORTED_LAYER``).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


def missing_package(package: str, purpose: str) -> ModelError:
    """Return the error for an optional package that is not installed."""
    return ModelError(
        "MISSING_PACKAGE",
        f"{purpose} needs the package {package!r}; install rt-seg[train]",
    )
