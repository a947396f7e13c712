"""The picture on an X11 screen."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.container import ContainerSource, time_limits
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pyav import open_input

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

DEFAULT_FPS = "30"


class ScreenSource(ContainerSource):
    """What a screen shows, at 30 frames per second unless ``fps`` says otherwise.

    Args:
        number: which one: the monitor as ``xrandr --listmonitors`` counts, or, on a display
            with several X screens, that screen; None for the whole desktop.
        options: what the user asked for.
    """

    def __init__(self, number: int | None, options: SourceOptions) -> None:
        name = "screen" if number is None else f"screen:{number}"
        super().__init__(name, name.replace(":", ""), options, live=True)
        self._number = number

    def _connect(self) -> InputContainer:
        display = os.environ.get("DISPLAY", "")
        if not display:
            why = (
                "this is a Wayland session without X11"
                if os.environ.get("WAYLAND_DISPLAY")
                else "DISPLAY is not set"
            )
            raise SourceError(
                f"{self._name}: there is no X11 display to read ({why})", reason="NO_DISPLAY"
            )
        if _x_libraries_clash():
            raise SourceError(
                f"{self._name}: OpenCV was imported before PyAV, whose X11 libraries it then "
                "replaces; reading a screen would end the process. Allowed: import av (or "
                "rtseg.realtime's open_source first) before cv2",
                reason="LIBRARY_CLASH",
            )
        options = self._options
        settings = {"framerate": options.fps_text or DEFAULT_FPS, "fpsprobesize": "0"}
        if options.width is not None:
            settings["video_size"] = f"{options.width}x{options.height}"
        if self._number is not None:
            monitors = _monitors()
            if self._number < len(monitors):
                width, height, x, y = monitors[self._number]
                settings.setdefault("video_size", f"{width}x{height}")
                settings |= {"grab_x": str(x), "grab_y": str(y)}
            else:
                display = f"{re.sub(r'[.][0-9]+$', '', display)}.{self._number}"
        return open_input(
            display,
            format="x11grab",
            options=settings,
            timeout=time_limits(options),
        )

    def _explained(self, error: av.FFmpegError) -> SourceError:
        if self._info is None:
            display = os.environ.get("DISPLAY", "")
            return SourceError(
                f"{self._name}: cannot be read from display {display!r} "
                f"({(error.strerror or '').lower()})",
                reason="NO_DISPLAY",
            )
        return super()._explained(error)


def _x_libraries_clash() -> bool:
    """Return whether PyAV would call OpenCV's copy of libxcb's parts.

    Both wheels bring copies under the same names, and the loader takes the first: with
    ``import cv2, av``, x11grab crashes; with ``import av, cv2`` it does not.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as mapped:
            return any("opencv" in line and "libxcb-shm" in line for line in mapped)
    except OSError:
        return False


def _monitors() -> list[tuple[int, int, int, int]]:
    """Return width, height, x, y of each monitor; empty where xrandr is missing or mute."""
    try:
        listed = subprocess.run(
            ["xrandr", "--listmonitors"], capture_output=True, text=True, timeout=5, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found = re.findall(r"^\s*\d+:.*?(\d+)/\d+x(\d+)/\d+\+(\d+)\+(\d+)", listed, re.MULTILINE)
    return [(int(w), int(h), int(x), int(y)) for w, h, x, y in found]
