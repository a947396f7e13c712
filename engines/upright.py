"""Turning frames the way a player would show them.

A container or an EXIF tag may say that the stored picture must be turned or mirrored: the
display matrix of ISO/IEC 14496-12, as FFmpeg attaches it to a frame.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from rtseg.engines.stills import decode_still

if TYPE_CHECKING:
    import av
    from av.sidedata.sidedata import SideData

Filters = tuple[tuple[str, str], ...]


# Counter-clockwise quarter turns, as FFmpeg counts them, as the first two rows of a matrix.
_MATRIX_OF_QUARTERS = {0: (1, 0, 0, 1), 1: (0, -1, 1, 0), 2: (-1, 0, 0, -1), 3: (0, 1, -1, 0)}

_TURNS: dict[int, Filters] = {
    0: (),
    90: (("transpose", "clock"),),
    180: (("hflip", ""), ("vflip", "")),
    270: (("transpose", "cclock"),),
}
_FLIPS: dict[str, Filters] = {"horizontal": (("hflip", ""),), "vertical": (("vflip", ""),)}


def tells_orientation(frame: av.VideoFrame) -> bool:
    """Say whether PyAV can list what is attached to a frame.

    FFmpeg 8 attaches EXIF data under a number that PyAV 18 has no name for and stumbles
    over. The angle can be had nevertheless, a mirroring cannot.
    """
    try:
        _side_data(frame)
    except ValueError:
        return False
    return True


def upright_still(frame: av.VideoFrame, data: bytes, turner: Turner | None = None) -> av.VideoFrame:
    """Bring the one picture of an image file upright.

    Args:
        frame: the picture as FFmpeg decoded it.
        data: the bytes of the file, for what PyAV cannot tell of its EXIF orientation.
        turner: what turns it; a new one if None.
    """
    if not tells_orientation(frame):
        frame = _by_opencv(data) or frame
    return (turner or Turner()).upright(frame)


def _by_opencv(data: bytes) -> av.VideoFrame | None:
    """Return a picture with its EXIF orientation applied, or None."""
    import av
    import cv2

    pixels = decode_still(data, cv2.IMREAD_COLOR)
    return None if pixels is None else av.VideoFrame.from_ndarray(pixels, format="bgr24")


def _side_data(frame: av.VideoFrame) -> SideData | None:
    """Return the display matrix that is attached to a frame, None where there is none.

    PyAV's list of what is attached and its frame refer to each other, so that the frame, and
    with it the decoder's threads and pictures, stayed until Python's collector came by. A tiny
    copy, which has the same attached, is asked instead.
    """
    import av

    try:
        small = frame.reformat(width=16, height=16)
    except (av.FFmpegError, ValueError):  # a format that cannot be scaled
        small = frame
    return cast("SideData | None", small.side_data.get("DISPLAYMATRIX"))


def upright_filters(frame: av.VideoFrame) -> Filters:
    """Return FFmpeg filters, as (name, arguments), that bring ``frame`` upright.

    Empty for an upright frame. Angles between the quarter turns go to the nearest one.
    """
    try:
        data = _side_data(frame)
    except ValueError:  # see tells_orientation
        return _filters(_MATRIX_OF_QUARTERS[round(frame.rotation / 90) % 4])
    if data is None:
        return ()
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return _filters((a, b, c, d))


@lru_cache(maxsize=32)
def _filters(matrix: tuple[int, int, int, int]) -> Filters:
    # A point (x, y) of the picture is shown at (a·x + c·y, b·x + d·y), y downwards.
    a, b, c, d = matrix
    turned = abs(b) + abs(c) > abs(a) + abs(d)
    if not turned:
        flips = [name for name, value in (("hflip", a), ("vflip", d)) if value < 0]
        return tuple((name, "") for name in flips)
    # Transposition alone is b > 0 and c > 0.
    direction: Literal["cclock_flip", "clock", "cclock", "clock_flip"]
    if b > 0:
        direction = "cclock_flip" if c > 0 else "clock"
    else:
        direction = "cclock" if c > 0 else "clock_flip"
    return (("transpose", direction),)


class Turner:
    """Brings the frames of one stream upright; upright ones pass untouched.

    Args:
        rotate: quarter turns of the camera that no container tells of, in degrees clockwise:
            0, 90, 180 or 270.
        flip: what is mirrored after that: ``horizontal`` (left and right), ``vertical`` (top
            and bottom), or None.

    Attributes:
        transposes: whether rows become columns.
    """

    def __init__(self, rotate: int = 0, flip: str | None = None) -> None:
        self._more = _TURNS[rotate] + (() if flip is None else _FLIPS[flip])
        self.transposes = False
        self._filters: Filters = ()
        self._rotation: int | None = None
        self._shape: tuple[int, int, str] = (0, 0, "")
        self._graph: av.filter.Graph | None = None

    def upright(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return ``frame`` itself where it is upright, else a new, turned one."""
        # To list side data takes PyAV 150 microseconds, the angle alone next to nothing;
        # within a stream the matrix changes with the angle if ever.
        if frame.rotation != self._rotation:
            self._rotation = frame.rotation
            self._filters = upright_filters(frame) + self._more
            self._graph = None
            turns = sum(name == "transpose" for name, _ in self._filters)
            self.transposes = turns % 2 == 1
        if not self._filters:
            return frame
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None or shape != self._shape:
            self._graph = _graph(frame, self._filters)
            self._shape = shape
        self._graph.vpush(frame)
        made = self._graph.vpull()
        # Lost where FFmpeg converts what cannot be transposed, such as 4:2:2 of a camera.
        made.colorspace, made.color_range = frame.colorspace, frame.color_range
        return made


def _graph(frame: av.VideoFrame, filters: Filters) -> av.filter.Graph:
    import av.filter

    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 1000),  # a picture without a time
        )
    ]
    nodes += [graph.add(name, arguments or None) for name, arguments in filters]
    # What was turned must not be turned again by the next reader.
    nodes.append(graph.add("sidedata", "mode=delete:type=DISPLAYMATRIX"))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    return graph
