"""YUV 4:2:0 pictures as an engine on a GPU takes them, straight from the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from rtseg.engines.engine import U8, Handle
from rtseg.engines.errors import EngineError

MAX_SIZE = 16384
"""Most columns and rows: what the kernels' whole numbers hold."""


@dataclass(frozen=True)
class YuvColours:
    """How the numbers of a YUV picture mean colours.

    Attributes:
        red_weight: Kr of the colour matrix (ITU-T H.273, table 4), as 0.2126 in BT.709.
        blue_weight: Kb of it.
        full_range: luma from 0 to 255, instead of 16 to 235.
    """

    red_weight: float
    blue_weight: float
    full_range: bool

    def to_rgb(self) -> tuple[float, float, float, float, float, float]:
        """Return black's luma and the factors: of luma, V in red, U and V in green, U in blue.

        ``red = luma * (Y - black) + red_v * (V - 128)``, and so on; all from 0 to 255.
        """
        red, blue = self.red_weight, self.blue_weight
        green = 1 - red - blue
        black, luma, chroma = (0.0, 1.0, 1.0) if self.full_range else (16.0, 255 / 219, 255 / 224)
        red_v, blue_u = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
        return black, luma, red_v, -blue / green * blue_u, -red / green * red_v, blue_u


BT601 = YuvColours(0.299, 0.114, False)
BT709 = YuvColours(0.2126, 0.0722, False)


@dataclass(frozen=True)
class Planes:
    """A picture in the host's memory, any distance from row to row.

    Attributes:
        y: luma, uint8, H×W.
        chroma: U and V, each of ceil(H/2)×ceil(W/2); or, as in NV12, one array of
            ceil(H/2)×ceil(W/2)×2 with both side by side.

    Raises:
        EngineError: ``BAD_INPUT`` where the arrays are not so.
    """

    y: U8
    chroma: tuple[U8] | tuple[U8, U8]

    def __post_init__(self) -> None:
        shapes = [part.shape for part in (self.y, *self.chroma)]
        if (
            any(part.dtype != np.uint8 for part in (self.y, *self.chroma))
            or self.y.ndim != 2
            or not 0 < min(self.y.shape) <= max(self.y.shape) <= MAX_SIZE
            or shapes[1:] != self.chroma_shapes()
        ):
            raise EngineError(
                f"a picture is uint8: H x W, and one or two planes of half that, up to {MAX_SIZE} "
                f"pixels a side. Received: {', '.join(str(shape) for shape in shapes)}",
                reason="BAD_INPUT",
            )

    @property
    def height(self) -> int:
        """Rows, in pixels."""
        return int(self.y.shape[0])

    @property
    def width(self) -> int:
        """Columns, in pixels."""
        return int(self.y.shape[1])

    @property
    def interleaved(self) -> bool:
        """Whether U and V lie side by side, as in NV12."""
        return len(self.chroma) == 1

    @property
    def size(self) -> int:
        """How many bytes the samples have."""
        return self.y.size + sum(part.size for part in self.chroma)

    def chroma_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes that the chroma arrays must have."""
        half = ((self.y.shape[0] + 1) // 2, (self.y.shape[1] + 1) // 2)
        return [(*half, 2)] if self.interleaved else [half, half]

    def pack(self, out: U8) -> None:
        """Copy the samples into ``size`` bytes, without gaps, luma first."""
        for part, place in zip((self.y, *self.chroma), self._places(out), strict=True):
            np.copyto(place, part)

    def unpack(self, packed: U8) -> None:
        """Overwrite the picture with bytes that :meth:`pack` could have made."""
        for part, place in zip((self.y, *self.chroma), self._places(packed), strict=True):
            np.copyto(part, place)

    def _places(self, packed: U8) -> list[U8]:
        places, first = [], 0
        for part in (self.y, *self.chroma):
            places.append(packed[first : first + part.size].reshape(part.shape))
            first += part.size
        return places


@dataclass(frozen=True)
class Paint:
    """How class ids are blended into a picture, and where it goes.

    Attributes:
        table: uint8, 256×4: Y, U, V of each class id, and 1 where it is painted, else 0.
        alpha: weight of the colours, 0..1.
        target: takes the picture; of the source's size and layout, and may be the source.
    """

    table: U8
    alpha: float
    target: Planes

    def check(self, source: Planes) -> None:
        """Raise :class:`EngineError` (``BAD_INPUT``) unless it fits the source."""
        shapes = [part.shape for part in (self.target.y, *self.target.chroma)]
        wanted = [part.shape for part in (source.y, *source.chroma)]
        if self.table.shape != (256, 4) or self.table.dtype != np.uint8:
            raise EngineError(
                f"a table is uint8 of 256 x 4. Received: {self.table.dtype} {self.table.shape}",
                reason="BAD_INPUT",
            )
        if not 0 <= self.alpha <= 1:
            raise EngineError(f"alpha must be 0..1. Received: {self.alpha:g}", reason="BAD_INPUT")
        if shapes != wanted:
            raise EngineError(
                f"the target must be like the source, {wanted}. Received: {shapes}",
                reason="BAD_INPUT",
            )


@runtime_checkable
class PlanesEngine(Protocol):
    """An engine that resizes the decoder's planes itself and blends the colours into them.

    A capability that some engines have besides :class:`~rtseg.engines.engine.Engine`.
    """

    def prepare_planes(self) -> None:
        """Make and try what :meth:`submit_planes` needs; the first submission does otherwise.

        Raises:
            EngineError: ``BACKEND_MISSING`` where this machine lacks something for it, which
                the error names, or ``ENGINE_FAILED`` where it gives wrong results;
                :meth:`~rtseg.engines.engine.Engine.submit` works all the same.
        """

    def submit_planes(
        self, source: Planes, colours: YuvColours, paint: Paint | None = None
    ) -> Handle:
        """Start an inference on one picture; ``result`` gives its class ids, 1×H×W.

        Args:
            source: the picture; it must not change until the result was taken.
            colours: what its numbers mean.
            paint: blends the class ids into the picture; ``paint.target`` holds it once the
                result was taken. None: class ids alone.

        Raises:
            EngineError: ``BAD_INPUT``, or as :meth:`prepare_planes`.
        """
