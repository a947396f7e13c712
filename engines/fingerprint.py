"""What a network file says and computes, as one hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rtseg.engines.onnxfile import external_files, file_sha256
from rtseg.engines.sidecar import sidecar_path


def network_sha256(path: Path) -> str:
    """Return the SHA-256 of a network, as hexadecimal digits.

    That of the file alone where it stands alone. Weights that an ONNX file keeps in other files,
    and the note beside it (:mod:`rtseg.engines.sidecar`), count too: both change what an engine
    computes.

    Raises:
        OSError: a file cannot be read.
    """
    beside = external_files(path) if path.suffix.lower() == ".onnx" else []
    note = sidecar_path(path)
    beside += [note] if note.is_file() else []
    own = file_sha256(path)
    if not beside:
        return own
    digest = hashlib.sha256(own.encode())
    for file in beside:
        digest.update(f"\n{file.name} {file_sha256(file)}".encode())
    return digest.hexdigest()
