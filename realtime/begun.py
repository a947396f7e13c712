"""Who paints pictures; and those that an engine paints: what it is given, what comes of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.engines.planes import MAX_SIZE, Paint, Planes, PlanesEngine, YuvColours
from rtseg.realtime.frame import U8, Frame
from rtseg.realtime.view import ViewOptions, panel_size
from rtseg.realtime.yuv import ColourTags, colour_tags, plane, planes_420, weights

if TYPE_CHECKING:
    import av

_log = logging.getLogger("rtseg.realtime")


@dataclass(frozen=True)
class Begun:
    """A picture on its way through an engine that paints it.

    Attributes:
        source: the frame's planes.
        colours: what their numbers mean to the network.
        paint: how it is painted, and into which planes: those of ``picture``.
        picture: what the viewer will see, 8-bit yuv420p of even size.
        view: what it shows.
        tags: what its numbers mean.
    """

    source: Planes
    colours: YuvColours
    paint: Paint
    picture: av.VideoFrame
    view: ViewOptions
    tags: ColourTags


class Painter(Protocol):
    """Makes the picture of a frame; see :class:`rtseg.realtime.overlay.Renderer`."""

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the picture for a frame of that size."""

    def render(self, frame: Frame, labels: U8) -> av.VideoFrame:
        """Return the picture, 8-bit yuv420p."""


@runtime_checkable
class PlanesPainter(Protocol):
    """A painter that can leave the painting to an engine; see ``overlay.Renderer``."""

    def begin(self, frame: Frame) -> Begun | None:
        """Return what the engine needs, or None where the painter has to paint itself."""

    def finish(self, begun: Begun, frame: Frame) -> av.VideoFrame:
        """Return the picture once the engine has painted it."""


def begin_picture(
    video: av.VideoFrame, table: U8, view: ViewOptions, tags: ColourTags
) -> Begun | None:
    """Return what an engine needs to paint a frame; None where it is no 8-bit YUV 4:2:0.

    Args:
        video: the frame.
        table: colours of the class ids, as in ``Paint``.
        view: overlay or mask.
        tags: what the frame's numbers mean.
    """
    import av

    source = as_planes(video)
    if source is None:
        return None
    picture = av.VideoFrame(*panel_size(view.view, video.width, video.height), "yuv420p")
    y, u, v = planes_420(picture)
    rows, columns = source.chroma[0].shape[:2]
    target = Planes(y[: source.height, : source.width], (u[:rows, :columns], v[:rows, :columns]))
    paint = Paint(table, 1.0 if view.view == "mask" else view.alpha, target)
    return Begun(source, network_colours(video), paint, picture, view, tags)


def as_planes(video: av.VideoFrame) -> Planes | None:
    """Return a frame's own planes without copying, U and V apart; None in other formats."""
    if max(video.width, video.height) > MAX_SIZE:
        return None
    if video.format.name == "nv12":
        both = plane(video, 1, 2)
        return Planes(plane(video, 0), (both[:, 0::2], both[:, 1::2]))
    if video.format.name in ("yuv420p", "yuvj420p"):
        return Planes(plane(video, 0), (plane(video, 1), plane(video, 2)))
    return None


def network_colours(video: av.VideoFrame) -> YuvColours:
    """Return how the network's input is made of a frame's numbers.

    As ``rtseg.engines.preprocess`` does, with which networks are trained and calibrated:
    swscale takes BT.601 where a frame names no matrix, of whatever size.
    """
    return YuvColours(*weights(int(video.colorspace)), colour_tags(video).full_range)


def planes_engine(engine: Engine) -> PlanesEngine | None:
    """Return an engine as one that paints, ready to; None, said in the log, where it cannot.

    Raises:
        EngineError: its device is lost.
    """
    if not isinstance(engine, PlanesEngine):
        return None
    try:
        engine.prepare_planes()
    except EngineError as error:
        if error.reason == "DEVICE_LOST":
            raise
        level = logging.WARNING if error.reason == "BACKEND_MISSING" else logging.INFO
        _log.log(level, "resizing and colouring on the CPU: %s", error)
        return None
    return engine
