"""Rendering: a frame and its class ids become the picture that people see.

Colours are blended in the Y, U and V planes themselves. The full-size RGB frame that most
viewers make on the way costs several times as much, and both decoder and encoder speak YUV.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rtseg.engines.labels import ClassTable
from rtseg.realtime.begun import Begun, begin_picture
from rtseg.realtime.frame import U8, Frame
from rtseg.realtime.hud import HudText, StampCache
from rtseg.realtime.nearest import NearestGrid
from rtseg.realtime.view import ViewOptions, panel_size, picture_size
from rtseg.realtime.yuv import ColourTags, as_420, black, colour_tags, colours_to_yuv, planes_420

if TYPE_CHECKING:
    import av

    from rtseg.realtime.controls import Controls

Planes = tuple[U8, U8, U8]


@dataclass(frozen=True)
class _Tables:
    """Lookup tables from class id to the numbers of one colour matrix and range."""

    colours: tuple[U8, U8, U8]
    hidden: U8
    """255 for ids that are not coloured, 0 for the others."""
    shows_frame: bool
    """Whether the frame shows where nothing is coloured; in the mask view it is black there."""
    hides_a_class: bool


class Renderer:
    """Turns frames and class ids into pictures; belongs to one thread.

    Every picture is new memory: allocating one costs a microsecond, as the C library hands
    out again what sinks let go of, and no sink can ever see a picture change under it.

    Args:
        classes: names and colours.
        options: the view; :meth:`render` may be given another one.
        controls: what a viewer changes while it runs, or None; its view then counts.

    Example:
        >>> renderer = Renderer(CITYSCAPES, ViewOptions(alpha=0.6))     # doctest: +SKIP
        >>> picture = renderer.render(frame, labels)                    # doctest: +SKIP
    """

    def __init__(
        self,
        classes: ClassTable,
        options: ViewOptions | None = None,
        controls: Controls | None = None,
    ) -> None:
        self.classes = classes
        self.hud_text: HudText | None = None
        """What the HUD says when :meth:`render` is told nothing else; set it now and then."""
        self._options = options if options is not None else ViewOptions()
        self._controls = controls
        self._stamps = StampCache(classes)
        self._grid = lru_cache(maxsize=8)(NearestGrid)
        self._tables_of = lru_cache(maxsize=8)(self._make_tables)

    @property
    def options(self) -> ViewOptions:
        """The view that the next picture is made with."""
        return self._options if self._controls is None else self._controls.options

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """Return ``(width, height)`` of the pictures made of width×height frames."""
        return picture_size(self.options.view, width, height)

    def render(
        self,
        frame: Frame,
        labels: U8,
        hud: HudText | None = None,
        options: ViewOptions | None = None,
    ) -> av.VideoFrame:
        """Return the picture of one frame.

        Args:
            frame: the frame; its picture may have any pixel format and is not written to.
            labels: uint8, H×W at any size: class ids, 255 (or any id without a class) where
                there is none.
            hud: the figures of the run, drawn when the view asks for them.
            options: the view, when it is not to be :attr:`options`.

        Returns:
            8-bit yuv420p of even size with the frame's time stamp, colour matrix, range,
            transfer curve and primaries. Odd frames are padded by repeating the last column
            or row. Class ids are enlarged by :func:`~rtseg.realtime.nearest.nearest_index`,
            for the chroma planes to their own (half) size.

        Raises:
            ValueError: ``labels`` is no two-dimensional uint8 array.
        """
        import av

        if labels.ndim != 2 or labels.dtype != np.uint8 or 0 in labels.shape:
            raise ValueError(
                f"labels must be uint8 of shape H x W. Received: {labels.dtype} {labels.shape}"
            )
        view = options if options is not None else self.options
        hud = hud if hud is not None else self.hud_text
        video = frame.video
        width, height = panel_size(view.view, video.width, video.height)
        if view.view == "side-by-side" and width < video.width:
            source_size = (width, height)  # too wide for an encoder: both panels shrink
        else:
            source_size = (video.width, video.height)
        tags = colour_tags(video)
        source = planes_420(as_420(video, tags, source_size))

        side_by_side = view.view == "side-by-side"
        picture = av.VideoFrame(2 * width if side_by_side else width, height, "yuv420p")
        target = planes_420(picture)
        if side_by_side:
            _copy(_columns(target, 0, width), source)
            panel = _columns(target, width, width)
        else:
            panel = target
        if view.view == "input" or (view.view != "mask" and view.alpha == 0):
            _copy(panel, source)
        else:
            alpha = 1.0 if view.view == "mask" else view.alpha
            show = view.shown(len(self.classes))
            tables = self._tables_of(show, tags, view.view == "mask")
            self._paint(panel, source, labels, tables, alpha)
        for part, size in ((_columns(target, 0, width), source_size), (panel, source_size)):
            _pad_to_even(part[0], *size)
        self._complete(picture, frame, tags, view, hud)
        return picture

    def begin(self, frame: Frame) -> Begun | None:
        """Return what an engine needs to paint the picture of a frame, or None.

        None where only :meth:`render` makes it: in other views than overlay and mask, and of
        frames that are no 8-bit YUV 4:2:0. May be called by another thread than ``finish``.
        """
        view, video = self.options, frame.video
        if view.view not in ("overlay", "mask") or (view.view == "overlay" and view.alpha == 0):
            return None
        tags = colour_tags(video)
        tables = self._tables_of(view.shown(len(self.classes)), tags, view.view == "mask")
        painted = (tables.hidden == 0) | (not tables.shows_frame)
        table = np.stack((*tables.colours, painted.astype(np.uint8)), axis=1)
        return begin_picture(video, table, view, tags)

    def finish(self, begun: Begun, frame: Frame, hud: HudText | None = None) -> av.VideoFrame:
        """Return the picture that an engine painted, as :meth:`render` would have made it."""
        _pad_to_even(planes_420(begun.picture)[0], begun.source.width, begun.source.height)
        hud = hud if hud is not None else self.hud_text
        self._complete(begun.picture, frame, begun.tags, begun.view, hud)
        return begun.picture

    def _complete(
        self,
        picture: av.VideoFrame,
        frame: Frame,
        tags: ColourTags,
        view: ViewOptions,
        hud: HudText | None,
    ) -> None:
        """Draw what lies over the picture, and say what it is."""
        target = planes_420(picture)
        if view.hud and hud is not None and hud.lines:
            self._stamps.draw_hud(target, hud, tags)
        if view.legend and view.view != "input":
            self._stamps.draw_legend(target, view.shown(len(self.classes)), tags)
        tags.write_to(picture)
        picture.pts = frame.pts
        picture.time_base = frame.time_base

    def _make_tables(self, show: tuple[int, ...], tags: ColourTags, mask_view: bool) -> _Tables:
        colours = np.empty((256, 3), np.uint8)
        colours[:] = black(tags)
        if show:
            wanted = np.array([self.classes.palette[index] for index in show], np.uint8)
            colours[list(show)] = colours_to_yuv(wanted, tags)
        hidden = np.full(256, 255, np.uint8)
        hidden[list(show)] = 0
        y, u, v = (np.ascontiguousarray(colours[:, channel]) for channel in range(3))
        return _Tables((y, u, v), hidden, not mask_view, len(show) < len(self.classes))

    def _paint(
        self, target: Planes, source: Planes, labels: U8, tables: _Tables, alpha: float
    ) -> None:
        labels = np.ascontiguousarray(labels)
        keeps = tables.shows_frame and (
            tables.hides_a_class or int(labels.max()) >= len(self.classes)
        )
        luma, chroma = source[0].shape, source[1].shape
        for indices, (rows, columns) in (((0,), luma), ((1, 2), chroma)):
            grid = self._grid((labels.shape[0], labels.shape[1]), (rows, columns))
            # look up where there are fewer pixels: before enlarging, after shrinking
            small = labels if grid.grows else grid.scale(labels).copy()
            for index in indices:
                colour = _look_up(small, tables.colours[index], grid)
                out = target[index][:rows, :columns]
                if alpha < 1:
                    _blend(source[index], colour, alpha, out)
                else:
                    np.copyto(out, colour)
            if keeps:
                hidden = _look_up(small, tables.hidden, grid)
                for index in indices:
                    _copy_where(source[index], hidden, target[index][:rows, :columns])


def _look_up(ids: U8, table: U8, grid: NearestGrid) -> U8:
    import cv2

    values: U8 = cv2.LUT(ids, table)
    return grid.scale(values) if grid.grows else values


def _blend(source: U8, colour: U8, alpha: float, out: U8) -> None:
    import cv2

    cv2.addWeighted(source, 1 - alpha, colour, alpha, 0, dst=out)


def _copy_where(source: U8, mask: U8, out: U8) -> None:
    import cv2

    cv2.copyTo(source, mask, out)


def _copy(target: Planes, source: Planes) -> None:
    for out, values in zip(target, source, strict=True):
        np.copyto(out[: values.shape[0], : values.shape[1]], values)


def _columns(planes: Planes, first: int, count: int) -> Planes:
    y, u, v = planes
    half = slice(first // 2, (first + count) // 2)
    return y[:, first : first + count], u[:, half], v[:, half]


def _pad_to_even(luma: U8, width: int, height: int) -> None:
    if width % 2:
        luma[:height, width] = luma[:height, width - 1]
    if height % 2:
        luma[height] = luma[height - 1]
