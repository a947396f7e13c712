"""The picture of one inference on its way to a GPU and back: once each way over the bus."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import numpy as np

from rtseg.engines.cuda_layer import Cuda
from rtseg.engines.engine import U8
from rtseg.engines.errors import EngineError
from rtseg.engines.kernels import TABLE_BYTES, DevicePicture
from rtseg.engines.planes import Paint, Planes


class GpuPictures:
    """Memory for one picture at a time and its table of colours, here and on the GPU.

    Both lie in one piece, so that one copy takes them up. The memory grows with the pictures.
    The GPU's context must be current for every call, and the stream must have come to the end
    of one picture before the next is taken.

    Args:
        cuda: the GPU.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._made = ExitStack()
        self._room = 0
        self._used = 0
        self._host: U8 = np.empty(0, np.uint8)
        self._device = 0
        self.picture = DevicePicture.packed(0, 0, 0, False)
        """Where the picture lies on the GPU."""

    @property
    def table(self) -> int:
        """Where the table of colours lies on the GPU."""
        return self._device

    def take(self, source: Planes, paint: Paint | None) -> None:
        """Copy a picture, and the table to paint it by, into pinned memory.

        Raises:
            EngineError: ``NO_MEMORY`` where there is none for a picture of that size.
        """
        self._used = TABLE_BYTES + source.size
        if self._used > self._room:
            self._grow(self._used)
        if paint is not None:
            self._host[:TABLE_BYTES] = paint.table.reshape(-1)
        source.pack(self._host[TABLE_BYTES : self._used])
        self.picture = DevicePicture.packed(
            self._device + TABLE_BYTES, source.width, source.height, source.interleaved
        )

    def upload(self, stream: int) -> None:
        """Copy all of it to the GPU when the stream gets there."""
        self._cuda.upload(self._device, self._host[: self._used], stream)

    def download(self, stream: int) -> None:
        """Copy the picture back when the stream gets there."""
        part = self._host[TABLE_BYTES : self._used]
        self._cuda.download(part, self._device + TABLE_BYTES, stream)

    def give(self, target: Planes) -> None:
        """Write what came back into a picture."""
        target.unpack(self._host[TABLE_BYTES : self._used])

    def close(self) -> None:
        """Free everything. May be called more than once."""
        self._room = 0
        with suppress(EngineError):
            self._made.close()

    def _grow(self, count: int) -> None:
        self.close()
        with ExitStack() as made:
            self._device = self._cuda.allocate(count)
            made.callback(self._cuda.free, self._device)
            self._host = self._cuda.pin(count)
            made.callback(self._cuda.unpin, self._host)
            self._made = made.pop_all()
        self._room = count
