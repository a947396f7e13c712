"""Whether there is a display, asked so that a wrong answer harms nobody.

``cv2.imshow`` without a display ends the whole process, so the X server is asked first.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import socket
import sys

_TIMEOUT_S = 1.0


def has_display() -> bool:
    """Return whether a window can be shown.

    On Linux this needs an X server that lets us in; Wayland desktops have one (XWayland) and
    name it in ``DISPLAY``. OpenCV's wheels bring no plugin for Wayland itself.
    """
    if sys.platform != "linux":
        return True
    display = os.environ.get("DISPLAY", "")
    if not display or not _answers(display):
        return False
    admitted = _admits(display)
    return True if admitted is None else admitted


def _answers(display: str) -> bool:
    """Return whether somebody listens where ``DISPLAY`` points; bounded in time."""
    match = re.fullmatch(r"(?:(?:unix|tcp)/)?([^:]*):(\d+)(?:\.\d+)?", display)
    if match is None:
        return False
    host, number = match[1], int(match[2])
    tries: list[tuple[socket.AddressFamily, object]] = []
    if host in ("", "unix"):
        path = f"/tmp/.X11-unix/X{number}"
        tries = [(socket.AF_UNIX, path), (socket.AF_UNIX, f"\0{path}")]
    elif number <= 65535 - 6000:
        tries = [(socket.AF_INET, (host, 6000 + number))]
    for family, address in tries:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_TIMEOUT_S)
            try:
                probe.connect(address)  # type: ignore[arg-type]
            except OSError:
                continue
            return True
    return False


def _admits(display: str) -> bool | None:
    """Return whether the X server lets us in, or None where Xlib is not installed."""
    try:
        xlib = ctypes.CDLL(ctypes.util.find_library("X11") or "libX11.so.6")
    except OSError:
        return None
    xlib.XOpenDisplay.restype = ctypes.c_void_p
    xlib.XOpenDisplay.argtypes = [ctypes.c_char_p]
    xlib.XCloseDisplay.argtypes = [ctypes.c_void_p]
    connection = xlib.XOpenDisplay(display.encode())
    if not connection:
        return False
    xlib.XCloseDisplay(connection)
    return True
