"""The kernels of ``kernels.cu``, compiled for a GPU, and the structures that they take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.engines.cuda_layer import Cuda
from rtseg.engines.planes import YuvColours

SOURCE = Path(__file__).with_name("kernels.cu")
BLOCK = (32, 8)
"""Threads of a block."""

TABLE_BYTES = 256 * 4

_AT, _INT, _FLOAT = np.uint64, np.int32, np.float32
PICTURE = np.dtype(
    [(name, _AT) for name in "yuv"]
    + [(name, _INT) for name in ("width", "height", "pitch", "chroma_pitch", "step", "reserved")]
)
RESIZE = np.dtype(
    [
        ("source", PICTURE),
        ("rgb", _AT),
        ("width", _INT),
        ("height", _INT),
        ("colours", _FLOAT, (6,)),
    ]
)
PAINT = np.dtype(
    [
        ("picture", PICTURE),
        ("labels", _AT),
        ("table", _AT),
        ("label_width", _INT),
        ("label_height", _INT),
        ("alpha", _FLOAT),
        ("reserved", _INT),
    ]
)


@dataclass(frozen=True)
class DevicePicture:
    """A YUV 4:2:0 picture in the GPU's memory.

    Attributes:
        y: address of the luma plane.
        u: address of the first U sample.
        v: address of the first V sample.
        width: columns of luma, in pixels; chroma has half, rounded up.
        height: rows of luma, in pixels.
        pitch: bytes from one row of luma to the next.
        chroma_pitch: bytes from one row of chroma to the next.
        step: bytes from one chroma sample to the next: 1, or 2 in NV12.
    """

    y: int
    u: int
    v: int
    width: int
    height: int
    pitch: int
    chroma_pitch: int
    step: int

    @classmethod
    def packed(cls, address: int, width: int, height: int, interleaved: bool) -> DevicePicture:
        """Return one without gaps between rows or planes, as ``Planes.pack`` makes it."""
        half_width, half_height = (width + 1) // 2, (height + 1) // 2
        chroma = address + width * height
        step = 2 if interleaved else 1
        other = 1 if interleaved else half_width * half_height
        return cls(address, chroma, chroma + other, width, height, width, half_width * step, step)

    def _record(self) -> tuple[int, ...]:
        planes = (self.y, self.u, self.v)
        return (*planes, self.width, self.height, self.pitch, self.chroma_pitch, self.step, 0)


class Kernels:
    """The kernels on one GPU, whose context must be current for every call.

    Args:
        cuda: the GPU.

    Raises:
        EngineError: ``BACKEND_MISSING`` where there is no compiler, or as the driver fails.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._module = cuda.load(SOURCE.read_text(encoding="utf-8"))
        try:
            self._resize = cuda.kernel(self._module, "rtseg_resize")
            self._paint = cuda.kernel(self._module, "rtseg_paint")
        except BaseException:
            cuda.unload(self._module)
            raise

    def resize(
        self,
        source: DevicePicture,
        colours: YuvColours,
        rgb: int,
        width: int,
        height: int,
        stream: int,
    ) -> None:
        """Make a picture the network's input: uint8 RGB of height x width x 3 at ``rgb``.

        Averages areas where it shrinks and is linear where it enlarges, as
        :func:`rtseg.engines.preprocess.to_engine_input` does.
        """
        job = resize_job(source, colours, rgb, width, height)
        self._launch(self._resize, (width + 1) // 2, height, job, stream)

    def paint(
        self,
        picture: DevicePicture,
        labels: int,
        label_size: tuple[int, int],
        table: int,
        alpha: float,
        stream: int,
    ) -> None:
        """Blend class ids (of height and width ``label_size``) into a picture, in place."""
        job = paint_job(picture, labels, label_size, table, alpha)
        width, height = (picture.width + 1) // 2, (picture.height + 1) // 2
        self._launch(self._paint, width, height, job, stream)

    def close(self) -> None:
        """Unload them."""
        self._cuda.unload(self._module)

    def _launch(
        self, kernel: int, width: int, height: int, job: NDArray[np.void], stream: int
    ) -> None:
        self._cuda.run(kernel, blocks(width, height), BLOCK, job.tobytes(), stream)


def blocks(width: int, height: int) -> tuple[int, int]:
    """Return how many blocks a kernel takes that has width x height things to do."""
    return -(-width // BLOCK[0]), -(-height // BLOCK[1])


def resize_job(
    source: DevicePicture, colours: YuvColours, rgb: int, width: int, height: int
) -> NDArray[np.void]:
    """Return ``struct Resize``."""
    return np.array((source._record(), rgb, width, height, colours.to_rgb()), RESIZE)


def paint_job(
    picture: DevicePicture, labels: int, label_size: tuple[int, int], table: int, alpha: float
) -> NDArray[np.void]:
    """Return ``struct Paint``."""
    height, width = label_size
    return np.array((picture._record(), labels, table, width, height, alpha, 0), PAINT)
