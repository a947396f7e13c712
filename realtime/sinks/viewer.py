"""The process behind :class:`~rtseg.realtime.sinks.window.WindowSink`: shows what it is sent.

Run as ``python -m rtseg.realtime.sinks.viewer``. Windows live in a process of their own because
OpenCV's Qt ends the process where it finds no display, hangs for good where PyAV was loaded
first (both wheels bring a libxcb; PyAV-Org/PyAV#1050), and wants the main thread.

On standard input: for each picture a header (:data:`HEADER`) and height × width × 3 bytes, blue
first; width 0 ends. On standard output, one word a line: ``shown`` for each picture, ``key
NAME`` and ``closed`` for what the viewer did.
"""

from __future__ import annotations

import os
import select
import struct
import sys
from io import FileIO

HEADER = struct.Struct("<II")
"""Width and height of the picture that follows, in pixels."""

_POLL_S = 0.015
_LARGEST = (1600, 900)
_KEY_NAMES = {27: "esc", 32: "space", 9: "tab", ord("="): "+", ord("_"): "-"}


def main() -> int:
    """Show pictures until there are no more, or the window is closed."""
    # Qt may print to standard output: keep the channel to ourselves.
    channel = FileIO(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
    title = sys.argv[1] if len(sys.argv) > 1 else "rt-seg"
    try:
        return _show(title, FileIO(0, closefd=False), channel)
    except (BrokenPipeError, KeyboardInterrupt):
        return 0


def _show(title: str, pictures: FileIO, channel: FileIO) -> int:
    import cv2
    import numpy as np

    shown = False
    while True:
        if select.select([pictures], [], [], _POLL_S)[0]:
            header = _read(pictures, HEADER.size)
            if len(header) < HEADER.size:
                return 0
            width, height = HEADER.unpack(header)
            if width == 0:
                return 0
            data = _read(pictures, width * height * 3)
            if len(data) < width * height * 3:
                return 0
            picture = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            if not shown:
                cv2.namedWindow(
                    title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
                )
                factor = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
                cv2.resizeWindow(title, round(width * factor), round(height * factor))
                shown = True
            cv2.imshow(title, picture)
            _report_key(cv2.waitKeyEx(1), channel)
            channel.write(b"shown\n")
        if not shown:
            continue
        try:
            code = cv2.pollKey()
            while code >= 0:
                _report_key(code, channel)
                code = cv2.pollKey()
            visible = cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # OpenCV 5 raises where the last window is gone
            visible = False
        if not visible:
            channel.write(b"closed\n")
            return 0


def _report_key(code: int, channel: FileIO) -> None:
    if code < 0:
        return
    letter = code & 0xFF
    name = _KEY_NAMES.get(letter, chr(letter).lower())
    if code < 0x100 and (name in _KEY_NAMES.values() or name.isprintable()):
        channel.write(f"key {name}\n".encode())


def _read(stream: FileIO, count: int) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        got = stream.readinto(view[done:])
        if not got:
            return data[:done]
        done += got
    return data


if __name__ == "__main__":
    sys.exit(main())
