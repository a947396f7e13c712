"""Cameras, through Video4Linux2."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.engines.lookup import is_there
from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.container import ContainerSource, time_limits
from rtseg.realtime.sources.naming import shown, stem_of
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pyav import open_input

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

# From here on a USB 2 camera delivers full frame rate only as Motion JPEG.
_MJPEG_FROM_WIDTH = 800
_FORMATS = {"mjpeg": "mjpeg", "yuyv": "yuyv422"}
"""FFmpeg's names of what :data:`INPUT_FORMATS` lists."""


class CameraSource(ContainerSource):
    """A camera of this machine.

    Args:
        device: its path, such as ``/dev/video0``, or a name of it that stays the same wherever it
            is plugged in (``/dev/v4l/by-id/…``).
        options: width, height, frame rate and input format to ask for; a camera may choose
            what is near.
    """

    def __init__(self, device: str, options: SourceOptions) -> None:
        number = re.fullmatch(r"/dev/video([0-9]+)", device)
        stem = f"camera{number[1]}" if number else stem_of(Path(device).name, "camera")
        super().__init__(shown(device), stem, options, live=True)
        self._device = device

    def _connect(self) -> InputContainer:
        import av

        if not _exists(self._device):
            present = ", ".join(map(_with_name, cameras())) or "none"
            raise SourceError(
                f"{self._name}: there is no such camera. Cameras here: {present}",
                reason="NOT_FOUND",
            )
        options = self._options
        settings = {"fpsprobesize": "0"}  # the driver says the rate
        if options.width is not None:
            settings["video_size"] = f"{options.width}x{options.height}"
        if options.fps_text is not None:
            settings["framerate"] = options.fps_text
        limit = time_limits(options)
        if options.input_format is not None:
            settings["input_format"] = _FORMATS[options.input_format]
        elif (options.width or 0) >= _MJPEG_FROM_WIDTH:
            try:
                return open_input(
                    self._device,
                    format="v4l2",
                    options={**settings, "input_format": "mjpeg"},
                    timeout=limit,
                )
            except (av.error.ArgumentError, av.error.InvalidDataError):
                pass  # a camera without Motion JPEG
        try:
            return open_input(self._device, format="v4l2", options=settings, timeout=limit)
        except av.error.ArgumentError:
            if options.input_format is None:
                raise
            raise SourceError(
                f"{self._name}: it does not give {options.input_format} (--input-format); "
                "v4l2-ctl --list-formats-ext lists what it gives",
                reason="CODEC_UNSUPPORTED",
            ) from None

    def _explained(self, error: av.FFmpegError) -> SourceError:
        if error.errno == errno.ENOSPC:  # what the kernel says when the bus is full
            return SourceError(
                f"{self._name}: the USB bus has no bandwidth left for it. Allowed: a smaller size "
                "(--width, --height), --input-format mjpeg, a lower --fps, another USB bus",
                reason="NO_BANDWIDTH",
            )
        return super()._explained(error)


def cameras() -> list[str]:
    """Return the video devices of this machine, by number."""
    found = Path("/dev").glob("video[0-9]*")
    return sorted(map(str, found), key=lambda path: (len(path), path))


def _with_name(device: str) -> str:
    """Return a device with the name that stays its own, where it has one."""
    name = lasting_name(device)
    return device if name is None else f"{device} ({name})"


def lasting_name(device: str, folder: Path = Path("/dev/v4l/by-id")) -> str | None:
    """Return the link in ``folder`` that leads to a device, None where there is none."""
    try:
        target = Path(device).resolve()
        return next(
            (str(link) for link in sorted(folder.iterdir()) if link.resolve() == target), None
        )
    except OSError:
        return None


def _exists(device: str) -> bool:
    try:
        return is_there(device)
    except PermissionError:
        return True  # opening it will say so
    except (OSError, ValueError):
        return False
