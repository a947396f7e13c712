"""Small videos made on the spot, so that the suite needs no files from elsewhere.

Every frame carries its own number: the picture is flat, with a brightness that says which
frame it is (:func:`frame_number`), and a white block in the top left corner that says which
way is up (:func:`white_corner`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 48_000
STEP = 4
CYCLE = 45
DARKEST = 30
WHITE = 235


def luma(index: int) -> int:
    """Return the brightness of frame ``index``: 30, 34, … 206, then again from 30."""
    return DARKEST + STEP * (index % CYCLE)


def picture(index: int, size: tuple[int, int], pixel_format: str = "yuv420p") -> av.VideoFrame:
    """Return frame ``index`` of ``size`` (width, height)."""
    width, height = size
    gray: NDArray[np.uint8] = np.full((height, width), luma(index), np.uint8)
    gray[: height // 4, : width // 4] = WHITE
    # Limited-range luma and neutral chroma, plane by plane: no colour conversion involved.
    frame = av.VideoFrame.from_ndarray(
        np.dstack([gray, np.full_like(gray, 128), np.full_like(gray, 128)]), format="yuv444p",
        channel_last=True,
    )  # fmt: skip
    return frame.reformat(format=pixel_format)


def luma_plane(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Return the brightness of a frame of any format, uint8, height×width, 16 to 235."""
    # Full-range input is squeezed into 16…235.
    array = frame.reformat(format="yuv444p", dst_color_range="MPEG").to_ndarray()
    return np.ascontiguousarray(array[0])


def frame_number(frame: av.VideoFrame) -> int:
    """Return the number (modulo 45) that :func:`picture` painted into a frame."""
    plane = luma_plane(frame)
    height, width = plane.shape
    middle = plane[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8]
    return round((float(middle.mean()) - DARKEST) / STEP) % CYCLE


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Return a JPEG with an EXIF header (TIFF 6.0, tag 0x0112) put behind its first marker."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def white_corner(frame: av.VideoFrame) -> str:
    """Return where the white block is: ``top left``, ``bottom right`` …"""
    plane = luma_plane(frame).astype(np.int32)
    height, width = plane.shape
    corners = {
        "top left": plane[: height // 8, : width // 8],
        "top right": plane[: height // 8, -(width // 8) :],
        "bottom left": plane[-(height // 8) :, : width // 8],
        "bottom right": plane[-(height // 8) :, -(width // 8) :],
    }
    return max(corners, key=lambda name: float(corners[name].mean()))


def make_video(
    path: Path,
    frames: int = 20,
    size: tuple[int, int] = (96, 64),
    fps: Fraction | int = 25,
    *,
    vfr_ms: Sequence[int] | None = None,
    audio: bool = False,
    rotation: int = 0,
    pixel_aspect: Fraction | int = 1,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    gop: int = 10,
    b_frames: int = 0,
    format: str | None = None,
) -> Path:
    """Write a small video and return its path.

    Args:
        path: the file; its suffix says the container, unless ``format`` does.
        frames: how many frames.
        size: width and height in pixels.
        fps: frame rate.
        vfr_ms: presentation time of each frame in milliseconds, instead of ``fps``.
        audio: whether to add a 440 Hz tone (AAC, 48 kHz) of the same length.
        rotation: degrees counter-clockwise that a player must turn the picture by.
        pixel_aspect: width of a pixel over its height.
        codec: encoder name.
        pixel_format: format handed to the encoder.
        gop: frames between two keyframes.
        b_frames: how many B-frames in a row.
        format: container format by name.
    """
    with av.open(str(path), "w", format=format) as out:
        video = out.add_stream(codec, rate=fps)
        assert isinstance(video, av.VideoStream)
        video.width, video.height = size
        video.pix_fmt = pixel_format
        video.gop_size = gop
        video.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
        if codec in ("libx264", "libx265"):
            quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            video.options = {"preset": "ultrafast", "qp": "10", "bf": str(b_frames), **quiet}
        else:
            video.bit_rate = 50_000_000
        tick = Fraction(1, 1000) if vfr_ms is not None else 1 / Fraction(fps)
        if vfr_ms is not None:
            video.codec_context.time_base = tick
        if rotation:
            video.set_display_rotation(rotation)
        tone = out.add_stream("aac", rate=SAMPLE_RATE) if audio else None
        for index in range(frames):
            frame = picture(index, size, pixel_format)
            frame.pts = index if vfr_ms is None else vfr_ms[index]
            frame.time_base = tick
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if tone is not None:
            assert isinstance(tone, av.AudioStream)
            length_s = (vfr_ms[frames - 1] / 1000) if vfr_ms is not None else frames / fps
            for sound in sine(float(length_s)):
                out.mux(tone.encode(sound))
            out.mux(tone.encode(None))
    return path


def sine(length_s: float, block: int = 1024) -> list[av.AudioFrame]:
    """Return a 440 Hz tone as frames of planar float samples, mono."""
    made = []
    for start in range(0, round(length_s * SAMPLE_RATE), block):
        t = (start + np.arange(block)) / SAMPLE_RATE
        samples = (0.2 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None, :]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = start
        frame.time_base = Fraction(1, SAMPLE_RATE)
        made.append(frame)
    return made


def make_sound(path: Path, length_s: float = 1.0) -> Path:
    """Write a file that has sound and no picture, and return its path."""
    with av.open(str(path), "w") as out:
        tone = out.add_stream("aac", rate=SAMPLE_RATE)
        assert isinstance(tone, av.AudioStream)
        for sound in sine(length_s):
            out.mux(tone.encode(sound))
        out.mux(tone.encode(None))
    return path


def make_images(
    folder: Path, frames: int = 5, size: tuple[int, int] = (96, 64), pattern: str = "frame_%06d.png"
) -> Path:
    """Write numbered pictures into ``folder`` (made if absent) and return it."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        cv2.imwrite(
            str(folder / (pattern % index)), picture(index, size).to_ndarray(format="bgr24")
        )
    return folder
