"""Frames that differ, of a folder of mixed images or a camera that changed its mode."""

from __future__ import annotations

import dataclasses

from rtseg.realtime.frame import Frame, SourceInfo
from rtseg.realtime.yuv import ColourTags, colour_tags, converted


class Alike:
    """Gives every frame the first one's colours and, if an output needs it, size.

    Args:
        any_size: whether each frame may keep its size.
    """

    def __init__(self, *, any_size: bool) -> None:
        self._any_size = any_size
        self._tags: ColourTags | None = None

    def __call__(self, frame: Frame, info: SourceInfo) -> Frame:
        """Return ``frame`` as it is to be seen; itself where it is like the first already.

        Args:
            frame: of a stream, in its order.
            info: of the source, which tells the first one's size.
        """
        if self._tags is None:
            self._tags = colour_tags(frame.video)
        own = (frame.video.width, frame.video.height)
        video = converted(frame.video, self._tags, own if self._any_size else _size(info))
        if video is frame.video:
            return frame
        return dataclasses.replace(frame, video=video, source_size=own)

    def is_first_like(self, frame: Frame, info: SourceInfo) -> bool:
        """Return whether a frame has the first one's colours and size."""
        same_size = (frame.video.width, frame.video.height) == _size(info)
        return same_size and self(frame, info) is frame


def _size(info: SourceInfo) -> tuple[int, int]:
    return info.width, info.height
