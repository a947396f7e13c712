"""YUV 4:2:0 pictures: their planes, their colour matrix and range, and colours in them.

Matrices: ITU-T H.273, table 4 (``MatrixCoefficients``); ranges: the same, ``VideoFullRangeFlag``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rtseg.realtime.frame import U8

if TYPE_CHECKING:
    import av

BT709, UNSPECIFIED, FCC, BT470BG, SMPTE170M, SMPTE240M = 1, 2, 4, 5, 6, 7
BT2020_NCL, BT2020_CL = 9, 10
"""Numbers of H.273's matrices, as in ``av.VideoFrame.colorspace``."""

LIMITED, FULL = 1, 2
"""Numbers of ``av.VideoFrame.color_range``."""

_WEIGHTS: dict[int, tuple[float, float]] = {  # Kr, Kb
    BT709: (0.2126, 0.0722),
    FCC: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    SMPTE170M: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020_NCL: (0.2627, 0.0593),
    BT2020_CL: (0.2627, 0.0593),
}

_SWS: dict[int, int] = {
    BT709: 1,
    FCC: 4,
    BT470BG: 5,
    SMPTE170M: 5,
    SMPTE240M: 7,
    BT2020_NCL: 9,
    BT2020_CL: 9,
}
"""swscale's own numbers of the same matrices."""


@dataclass(frozen=True)
class ColourTags:
    """How the numbers of a YUV picture mean colours; the fields are H.273's numbers."""

    matrix: int
    full_range: bool
    transfer: int = UNSPECIFIED
    primaries: int = UNSPECIFIED

    def write_to(self, picture: av.VideoFrame) -> None:
        """Tag a picture."""
        picture.colorspace = self.matrix
        picture.color_range = FULL if self.full_range else LIMITED
        picture.color_trc = self.transfer
        picture.color_primaries = self.primaries


def colour_tags(frame: av.VideoFrame) -> ColourTags:
    """Return how the colours of a frame's YUV 4:2:0 version are to be understood.

    A frame that names no matrix gets the one that players assume: BT.709 from 1280 columns
    or 577 rows on, BT.601 below; a picture that was turned counts as it lay. A range that is
    not named is limited, except in the ``yuvj`` formats; what is made of RGB is limited.
    """
    matrix = int(frame.colorspace)
    if matrix not in _WEIGHTS:
        short, long = sorted((frame.width, frame.height))
        matrix = BT709 if long >= 1280 or short > 576 else SMPTE170M
    full = not _is_rgb(frame) and _is_full_range(frame)
    return ColourTags(matrix, full, int(frame.color_trc), int(frame.color_primaries))


def weights(matrix: int) -> tuple[float, float]:
    """Return Kr and Kb of one of H.273's matrices; BT.601's for a number without one."""
    return _WEIGHTS.get(matrix, _WEIGHTS[SMPTE170M])


def _is_rgb(frame: av.VideoFrame) -> bool:
    return bool(frame.format.is_rgb or frame.format.has_palette)


def _is_full_range(frame: av.VideoFrame) -> bool:
    named = int(frame.color_range)
    if named in (LIMITED, FULL) and not frame.format.name.startswith("yuvj"):
        return named == FULL
    return frame.format.name.startswith(("yuvj", "gray", "ya", "mono"))


def colours_to_yuv(colours: U8, tags: ColourTags) -> U8:
    """Convert N×3 RGB colours to N×3 Y'CbCr numbers, uint8, in a matrix and range."""
    red_weight, blue_weight = _WEIGHTS[tags.matrix]
    rgb = np.asarray(colours, np.float64).reshape(-1, 3) / 255.0
    red, blue = rgb[:, 0], rgb[:, 2]
    luma = red_weight * red + (1 - red_weight - blue_weight) * rgb[:, 1] + blue_weight * blue
    cb = (blue - luma) / (2 * (1 - blue_weight))
    cr = (red - luma) / (2 * (1 - red_weight))
    if tags.full_range:
        values = np.stack((255 * luma, 255 * cb + 128, 255 * cr + 128), axis=1)
    else:
        values = np.stack((219 * luma + 16, 224 * cb + 128, 224 * cr + 128), axis=1)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def black(tags: ColourTags) -> tuple[int, int, int]:
    """Return black in a matrix and range."""
    y, u, v = colours_to_yuv(np.zeros((1, 3), np.uint8), tags)[0]
    return int(y), int(u), int(v)


def plane(frame: av.VideoFrame, index: int, bytes_a_sample: int = 1) -> U8:
    """Return a plane as a uint8 array of rows × bytes, without copying it."""
    layer = frame.planes[index]
    stride = layer.line_size
    rows: U8 = np.frombuffer(memoryview(layer), np.uint8).reshape(layer.height, abs(stride))
    if stride < 0:  # a picture stored upside down
        rows = rows[::-1]
    return rows[:, : layer.width * bytes_a_sample]


def planes_420(frame: av.VideoFrame) -> tuple[U8, U8, U8]:
    """Return the Y, U and V planes of a yuv420p, yuvj420p or nv12 frame.

    Those of yuv420p are views; U and V of nv12 are copies.
    """
    if frame.format.name == "nv12":
        both = plane(frame, 1, 2)
        return plane(frame, 0), both[:, 0::2].copy(), both[:, 1::2].copy()
    return plane(frame, 0), plane(frame, 1), plane(frame, 2)


def sws_matrix(tags: ColourTags) -> int:
    """Return swscale's number of a matrix, for ``reformat`` and ``to_ndarray``."""
    return _SWS[tags.matrix]


def as_420(frame: av.VideoFrame, tags: ColourTags, size: tuple[int, int]) -> av.VideoFrame:
    """Return a frame in a layout :func:`planes_420` reads, of ``size`` = (width, height).

    A frame that is so already comes back itself; others go through swscale once, keeping
    matrix and range (10-bit pictures lose their low bits).
    """
    if frame.format.name in ("yuv420p", "yuvj420p", "nv12") and size == (frame.width, frame.height):
        return frame
    number = FULL if tags.full_range else LIMITED
    rgb = _is_rgb(frame)
    return frame.reformat(
        width=size[0],
        height=size[1],
        format="yuv420p",
        src_colorspace=None if rgb else sws_matrix(tags),
        dst_colorspace=sws_matrix(tags),
        src_color_range=FULL if rgb else number,
        dst_color_range=number,
    )


def as_rgb(frame: av.VideoFrame, layout: str = "rgb24") -> U8:
    """Return a frame as H×W×3 uint8, ``rgb24`` or ``bgr24``, in its own matrix and range."""
    if _is_rgb(frame):
        return frame.to_ndarray(format=layout).astype(np.uint8, copy=False)
    tags = colour_tags(frame)
    array = frame.to_ndarray(
        format=layout,
        src_colorspace=sws_matrix(tags),
        src_color_range=FULL if tags.full_range else LIMITED,
        dst_color_range=FULL,
    )
    return array.astype(np.uint8, copy=False)


def converted(frame: av.VideoFrame, tags: ColourTags, size: tuple[int, int]) -> av.VideoFrame:
    """Return a frame with another size, colour matrix and range; itself where all are so.

    Args:
        frame: any picture. RGB pictures become YUV 4:2:0: swscale reads kinds of them
            (palettes, floats) that it cannot write.
        tags: what its YUV numbers are to mean.
        size: ``(width, height)`` in pixels.
    """
    own = colour_tags(frame)
    same_colours = (own.matrix, own.full_range) == (tags.matrix, tags.full_range)
    if same_colours and size == (frame.width, frame.height):
        return frame
    if _is_rgb(frame):
        new = as_420(frame, tags, size)
    else:
        new = frame.reformat(
            width=size[0],
            height=size[1],
            format=frame.format.name.replace("yuvj", "yuv"),
            src_colorspace=sws_matrix(own),
            dst_colorspace=sws_matrix(tags),
            src_color_range=FULL if own.full_range else LIMITED,
            dst_color_range=FULL if tags.full_range else LIMITED,
        )
    tags.write_to(new)
    return new


def copy_of(picture: av.VideoFrame) -> av.VideoFrame:
    """Return a picture (8-bit yuv420p) with the same pixels and colours, without its time."""
    import av

    copy = av.VideoFrame(picture.width, picture.height, "yuv420p")
    for target, source in zip(planes_420(copy), planes_420(picture), strict=True):
        target[:] = source
    colour_tags(picture).write_to(copy)
    return copy
