"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.engines import wholefile
from rtseg.engines.lookup import is_there
from rtseg.models.errors import ModelError

if TYPE_CHECKING:
    import keras


WEIGHTS = ".weights.h5"
"""How a name ends under which Keras writes weights."""


def writing_error(path: Path, error: OSError) -> ModelError:
    """Return the error for a file that cannot be written, with the reason word that fits."""
    full = wholefile.is_full(error)
    return ModelError(
        f"cannot write {path}: {error.strerror or error}. "
        f"Allowed: a folder {'with more space' if full else 'that may be written'}",
        reason="NO_SPACE" if full else "PERMISSION_DENIED",
    )


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, and the folders it lies in, all or nothing.

    Raises:
        ModelError: ``NO_SPACE`` or ``PERMISSION_DENIED``; what was there before is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        wholefile.write_whole(path, data)
    except OSError as error:
        raise writing_error(path, error) from error


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that no file would be replaced unasked.

    Args:
        path: the file to write.
        overwrite: whether it may be there.

    Raises:
        ModelError: ``BAD_CONFIG``: it is there and may not be.
    """
    if is_there(path) and not overwrite:
        raise ModelError(f"{path} exists; -y replaces it", reason="BAD_CONFIG")


def check_weights_name(path: Path) -> None:
    """Check that Keras would write weights under such a name.

    Raises:
        ModelError: ``BAD_CONFIG``: it does not end in `WEIGHTS`.
    """
    if not path.name.endswith(WEIGHTS):
        raise ModelError(f"{path}; allowed: a name in {WEIGHTS}", reason="BAD_CONFIG")


def save_weights(model: keras.Model, path: Path) -> None:
    """Write the weights of ``model`` as a ``.weights.h5`` file, all or nothing.

    Raises:
        ModelError: another name, ``NO_SPACE`` or ``PERMISSION_DENIED``; what was there before
            is untouched.
    """
    check_weights_name(path)
    size = sum(weight.nbytes for weight in model.get_weights())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with wholefile.replacing(path, WEIGHTS) as partial:
            # HDF5 crashes the process where the disk fills while it writes, so try first whether
            # the space is there.
            if hasattr(os, "posix_fallocate"):
                with partial.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size + size // 4 + (1 << 20))
            model.save_weights(partial)
    except OSError as error:
        raise writing_error(path, error) from error
