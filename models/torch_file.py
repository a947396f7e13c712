"""Read weights out of a torch file without torch.

Only the format before torch 1.6 (pickles followed by raw storages), only float32 and
int64 tensors, and nothing of the pickle is executed: any other name in it is refused.
"""

from __future__ import annotations

import collections
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rtseg.models.errors import ModelError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Storage:
    """A block of numbers at the end of the file."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view on a storage; strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild(storage: _Storage, offset: int, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Knows the few names of a state dictionary and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve an allowed name."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a weights file")

    def persistent_load(self, pid: Any) -> _Storage:
        """Resolve a reference to a storage."""
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"{kind!r} is not allowed in a weights file")
        return _Storage(str(key), dtype, int(count))


def _load(stream: BinaryIO) -> Any:
    return _Unpickler(stream).load()


def read_torch_file(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read a state dictionary.

    Args:
        path: a ``.pth`` file in the format before torch 1.6.

    Returns:
        Name to array (float32 or int64), in the file's order.

    Raises:
        ModelError: the file is missing, damaged, or of another format.
    """
    try:
        stream = io.BytesIO(Path(path).read_bytes())
    except OSError as error:
        raise ModelError(
            f"cannot read {path}: {error.strerror or error}", reason="NOT_FOUND"
        ) from error
    try:
        if _load(stream) != _MAGIC or _load(stream) != _PROTOCOL:
            raise ValueError("not a torch file of the format before 1.6")
        _load(stream)  # sizes and byte order of the machine that wrote it
        state = _load(stream)
        tensors = {str(name): value for name, value in state.items()}
        if not all(isinstance(value, _Tensor) for value in tensors.values()):
            raise ValueError("not a plain dictionary of tensors")
        dtypes = {t.storage.key: t.storage.dtype for t in tensors.values()}
        blocks: dict[str, NDArray[Any]] = {}
        for key in _load(stream):
            count = int(np.frombuffer(stream.read(8), "<i8")[0])
            dtype = dtypes[str(key)]
            blocks[str(key)] = np.frombuffer(stream.read(count * dtype.itemsize), dtype, count)
        return {name: _view(blocks[t.storage.key], t) for name, t in tensors.items()}
    except (
        ValueError, KeyError, IndexError, EOFError, TypeError, AttributeError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise ModelError(f"{path} cannot be read: {error}", reason="BAD_WEIGHTS") from error


def _view(block: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    last = tensor.offset + sum(
        (side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True)
    )
    if tensor.offset < 0 or min(tensor.shape, default=1) < 0 or last >= max(block.size, 1):
        raise ValueError("a tensor reaches beyond its storage")
    size = block.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        block[tensor.offset :], tensor.shape, [step * size for step in tensor.strides]
    )
    return np.array(view)
