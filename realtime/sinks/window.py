"""A window on the desktop, with keys."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from rtseg.realtime.controls import Controls
from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import U8, Rendered, now_ns
from rtseg.realtime.sinks.child import start_module
from rtseg.realtime.sinks.display import has_display
from rtseg.realtime.sinks.images import save_picture, to_bgr
from rtseg.realtime.sinks.sink import Sink, SinkContext
from rtseg.realtime.sinks.stale import REMARK_S, mark_stale, stale_after_s
from rtseg.realtime.sinks.viewer import HEADER

if TYPE_CHECKING:
    import av

__all__ = ["WindowSink", "has_display"]

_log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long the window may take for one picture (the first one loads the window system)."""


class WindowSink(Sink):
    """Shows pictures in a window; keys and closing it are wishes put into ``controls``.

    The window is a process of its own (:mod:`~rtseg.realtime.sinks.viewer`), so that nothing
    the window system does can end or hang the loop. A snapshot is written into the working
    directory as ``<stem>_000123.png``.

    Args:
        controls: where the viewer's wishes go, or None for ones of its own.
        title: the window's title, or None for one with the source's name.
    """

    name = "window"
    presents = True

    def __init__(self, controls: Controls | None = None, *, title: str | None = None) -> None:
        self.controls = controls if controls is not None else Controls()
        self._title = title
        self._context: SinkContext | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._answers = b""
        self._waiting = 0
        self._closed_by_viewer = False
        self._shown: Rendered | None = None
        self._marked_ns = 0

    def open(self, context: SinkContext) -> None:
        """Start the window's process; see :meth:`Sink.open`.

        Raises:
            SinkError: there is no display (``NO_DISPLAY``).
        """
        if not has_display():
            display = os.environ.get("DISPLAY")
            raise SinkError(
                "there is no display for a window "
                f"(DISPLAY is {repr(display) if display else 'not set'}). Allowed: --out FILE, "
                "or a desktop session",
                reason="NO_DISPLAY",
            )
        title = self._title if self._title is not None else f"rt-seg {context.source.name}"
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the window)
        try:
            # Ctrl-C is for the loop, which then closes the window.
            self._process = start_module(
                "rtseg.realtime.sinks.viewer", title, complaints=self._complaints
            )
        except OSError as error:
            self._complaints.close()
            self._complaints = None
            raise SinkError(
                f"cannot start the window: {error.strerror}", reason="NO_DISPLAY"
            ) from error
        self._context = context

    def write(self, item: Rendered) -> None:
        """Show one picture and take the keys; see :meth:`Sink.write`."""
        if self._context is None:
            raise SinkError("the window is closed. Allowed: writing between open and close")
        if item.picture is None:
            raise SinkError("the window needs pictures. Received: none", reason="BAD_INPUT")
        if self._closed_by_viewer:
            return
        self._shown = item
        self._show(self._square_pixels(item.picture, self._context))
        deadline_s = time.monotonic() + ANSWER_S
        while self._waiting and not self._closed_by_viewer:
            if time.monotonic() > deadline_s:
                raise SinkError(f"the window shows nothing for {ANSWER_S:.0f} s", reason="TIMEOUT")
            self._listen(0.1)
        self._serve()

    def idle(self) -> None:
        """Take the keys, and mark the last picture of a live source once it is old."""
        if self._context is not None:
            self._listen(0)
            self._serve()
            self._mark_if_stale(self._context)

    def close(self) -> None:
        """Close the window; see :meth:`Sink.close`."""
        process, self._process = self._process, None
        self._context = self._shown = None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.close()  # the end of pictures is the end of the window
            except OSError as error:
                _log.debug("window: %s", error)
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        if self._complaints is not None:
            self._complaints.close()
            self._complaints = None

    def _mark_if_stale(self, context: SinkContext) -> None:
        item = self._shown
        if not context.source.live or self.controls.paused or item is None or self._waiting:
            return
        now = now_ns()
        age_s = (now - item.frame.captured_ns) / 1e9
        if age_s < stale_after_s(context.source) or now - self._marked_ns < REMARK_S * 1e9:
            return
        self._marked_ns = now
        if item.picture is not None and not self._closed_by_viewer:
            self._show(mark_stale(self._square_pixels(item.picture, context), age_s))

    @staticmethod
    def _square_pixels(picture: av.VideoFrame, context: SinkContext) -> U8:
        bgr = to_bgr(picture)
        ratio = context.source.sample_aspect_ratio
        if not context.sample_aspect_ratio_of_picture or ratio <= 0 or ratio == 1:
            return bgr
        import cv2

        size = (max(1, round(bgr.shape[1] * ratio)), bgr.shape[0])
        return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR), np.uint8)

    def _show(self, bgr: U8) -> None:
        self._waiting += 1
        self._send(HEADER.pack(bgr.shape[1], bgr.shape[0]) + bgr.tobytes())

    def _send(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except BrokenPipeError:
            self._listen(0.5)
            if not self._closed_by_viewer:
                self._raise_broken()

    def _listen(self, timeout_s: float) -> None:
        """Read what the window's process says, waiting up to ``timeout_s`` for it."""
        process = self._process
        if process is None or process.stdout is None or self._closed_by_viewer:
            return
        while select.select([process.stdout], [], [], timeout_s)[0]:
            timeout_s = 0
            heard = os.read(process.stdout.fileno(), 4096)
            if not heard:
                if not self._closed_by_viewer:
                    self._raise_broken()
                return
            *lines, self._answers = (self._answers + heard).split(b"\n")
            for line in lines:
                self._obey(line.decode())

    def _obey(self, line: str) -> None:
        if line == "shown":
            self._waiting -= 1
        elif line == "closed":
            self._closed_by_viewer = True
            self.controls.request_quit()
        elif line.startswith("key "):
            self.controls.press(line[4:])

    def _serve(self) -> None:
        if self.controls.take_snapshot():
            self._save_snapshot()

    def _raise_broken(self) -> None:
        assert self._process is not None
        code = self._process.wait()
        said = b""
        if self._complaints is not None:
            self._complaints.seek(0)
            said = self._complaints.read().strip()
        last = said.decode(errors="replace").splitlines()[-1:] or [f"exit code {code}"]
        raise SinkError(f"the window broke: {last[0]}", reason="NO_DISPLAY")

    def _save_snapshot(self) -> None:
        if self._shown is None or self._shown.picture is None or self._context is None:
            return
        stem = f"{self._context.source.stem}_{self._shown.frame.index:06d}"
        path, again = Path(f"{stem}.png"), 1
        while path.exists():
            again += 1
            path = Path(f"{stem}_{again}.png")
        try:
            save_picture(self._shown.picture, path)
        except SinkError as error:  # a snapshot that fails is no reason to end the run
            _log.warning("%s", error)
            return
        _log.info("snapshot: %s", path)
