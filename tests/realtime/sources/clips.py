"""Clips of several containers, and how tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtseg.realtime.frame import Frame
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from tests.media import frame_number

PARTS = {
    "mp4": {},
    "mkv": {"b_frames": 2},
    "ts": {"b_frames": 2, "gop": 12},
    "avi": {"codec": "mpeg4"},
    "h264.avi": {"b_frames": 3, "gop": 15},
    "mjpeg": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "mov": {"b_frames": 2, "gop": 40},
}


def read(path: Path, **options: Any) -> list[Frame]:
    with open_source(str(path), SourceOptions(**options)) as source:
        return list(source.frames())


def numbers(frames: list[Frame]) -> list[int]:
    return [frame_number(frame.video) for frame in frames]
