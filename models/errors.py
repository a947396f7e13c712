"""The errors of this room. Every one carries a stable reason word."""

from __future__ import annotations


class ModelError(Exception):
    """A failure while a network is built, trained, exported or judged.

    Args:
        message: one line: what was received, and what is allowed.
        reason: stable word for logs and scripts: ``NOT_FOUND``, ``BAD_CONFIG``,
            ``BAD_DATA``, ``BAD_WEIGHTS``, ``CLASS_MISMATCH``, ``NAN_LOSS``, ``NO_SPACE``,
            ``PERMISSION_DENIED``, ``MISSING_PACKAGE``, ``UNSUPPORTED_LAYER`` or ``MODEL_FAILED``.
    """

    def __init__(self, message: str, *, reason: str = "MODEL_FAILED") -> None:
        super().__init__(message)
        self.reason = reason


def loss_diverged(loss: float, step: int) -> ModelError:
    """Return the error for a loss that is no number any more."""
    return ModelError(
        f"the loss became {loss} at step {step}; begin anew with lower learning rates, from the "
        "run's own weights: --start RUN/average.weights.h5",
        reason="NAN_LOSS",
    )


def missing_package(package: str, purpose: str) -> ModelError:
    """Return the error for an optional package that is not installed."""
    return ModelError(
        f"{purpose} needs a package that is not installed: pip install {package}",
        reason="MISSING_PACKAGE",
    )
