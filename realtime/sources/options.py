"""What a user may ask of a source, besides which one it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from rtseg.realtime.errors import UsageError

RTSP_TRANSPORTS = ("tcp", "udp")
INPUT_FORMATS = ("mjpeg", "yuyv")
ROTATIONS = (0, 90, 180, 270)
FLIPS = ("horizontal", "vertical")


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source. Options that do not apply to a source are ignored by it.

    Attributes:
        start_s: where to begin, in seconds from the first frame (files).
        duration_s: how much to read from there, in seconds; None for all of it. A live source
            ends that long after its first frame, by the clock.
        loop: how often a file is played; 0 for ever.
        width: columns to ask a camera or screen for, in pixels; None leaves it to the device.
        height: rows to ask a camera or screen for, in pixels; given together with ``width``.
        fps: frames per second to ask a camera or screen for, or at which a folder of images
            plays, or a file or pipe whose format names no times (bare H.264, Motion JPEG);
            None for the source's own.
        input_format: what to ask a camera for: ``mjpeg`` (more pictures through one bus) or
            ``yuyv`` (not compressed); None for ``mjpeg`` from 800 columns on, where it has that.
        rtsp_transport: ``tcp`` (nothing gets lost) or ``udp`` (nothing waits for a resend).
        timeout_s: how long to wait for a connection, and then for each frame of a live
            source, in seconds.
        reconnect: how many tries in a row a stream or camera that was lost is given; 0 for
            none (its loss ends the source), None for no limit. Ignored where not live.
        hwaccel: ``none``, ``auto``, or FFmpeg's name of a decoder device such as ``cuda`` or
            ``vaapi``. Where it cannot be had, software decodes and a log line says so.
        live_sound: whether the sound of a live stream is read, too: its first track, not decoded.
        live: whether a pipe (standard input or a named one) is a camera's: its time does not wait
            for the reader.
        rotate: degrees clockwise to turn every picture by, on top of what its file says: 0, 90,
            180 or 270.
        flip: what to mirror after that: ``horizontal`` (left and right), ``vertical``, or None.
        track: which video track, from 1, where there are several (a dashcam's front and rear
            camera in one file); None for FFmpeg's choice.
        threads: threads of the software decoder; few, so that the engine keeps its cores.

    Raises:
        UsageError: a value that makes no sense.
    """

    start_s: float = 0.0
    duration_s: float | None = None
    loop: int = 1
    width: int | None = None
    height: int | None = None
    fps: Fraction | float | None = None
    input_format: str | None = None
    rtsp_transport: str = "tcp"
    timeout_s: float = 10.0
    reconnect: int | None = None
    hwaccel: str = "none"
    live_sound: bool = False
    live: bool = False
    rotate: int = 0
    flip: str | None = None
    track: int | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        _check("--start", self.start_s, f"0 to {_LONGEST_S:g} seconds", least=0, most=_LONGEST_S)
        _check("--duration", self.duration_s, "more than 0 seconds", above=0)
        _check("--loop", self.loop, "0 (for ever), 1, 2, …", least=0)
        _check("--width", self.width, "1 or more pixels", least=1)
        _check("--height", self.height, "1 or more pixels", least=1)
        _check("--fps", self.fps, f"{_LEAST_FPS:g} or more frames per second", least=_LEAST_FPS)
        _check("--timeout", self.timeout_s, "more than 0 seconds", above=0)
        _check("--reconnect", self.reconnect, "0 (off), 1, 2, … or forever", least=0)
        _check("--track", self.track, "1 or more", least=1)
        _check("--decode-threads", self.threads, "1 or more", least=1)
        if (self.width is None) != (self.height is None):
            raise UsageError(
                "--width and --height go together. "
                f"Received: --width {self.width}, --height {self.height}"
            )
        if self.rtsp_transport not in RTSP_TRANSPORTS:
            raise UsageError(
                f"--rtsp-transport must be one of {', '.join(RTSP_TRANSPORTS)}. "
                f"Received: {self.rtsp_transport}"
            )
        if self.input_format is not None and self.input_format not in INPUT_FORMATS:
            raise UsageError(
                f"--input-format must be {' or '.join(INPUT_FORMATS)}. "
                f"Received: {self.input_format}"
            )
        if self.rotate not in ROTATIONS:
            raise UsageError(
                f"--rotate must be one of {', '.join(map(str, ROTATIONS))} (degrees clockwise). "
                f"Received: {self.rotate}"
            )
        if self.flip is not None and self.flip not in FLIPS:
            raise UsageError(f"--flip must be {' or '.join(FLIPS)}. Received: {self.flip}")
        if not self.hwaccel:
            raise UsageError("--hwaccel must be auto, none or a device such as cuda. Received: ''")

    @property
    def fps_text(self) -> str | None:
        """The frame rate as FFmpeg reads it (``30``, ``30000/1001``), or None."""
        if self.fps is None:
            return None
        return str(exact(self.fps))


_LONGEST_S = 1e9
_LEAST_FPS = 1e-4


def exact(number: Fraction | float) -> Fraction:
    """Return what a user meant by a decimal number: 0.4 is 2/5, not the float beside it.

    >>> exact(0.4), exact(29.97)
    (Fraction(2, 5), Fraction(2997, 100))
    """
    return Fraction(number).limit_denominator(1_000_000)


def _check(
    option: str,
    value: float | Fraction | None,
    allowed: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
) -> None:
    if value is None:
        return
    if not math.isfinite(value) or value < least or value <= above or value > most:
        raise UsageError(f"{option} must be {allowed}. Received: {value}")
