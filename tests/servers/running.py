"""Starting the servers that the tests talk to; everything stays on 127.0.0.1."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

DEBIAN_PYTHON = "/usr/bin/python3"
RTSP_SCRIPT = Path(__file__).with_name("rtsp_server.py")
RTSP_RECORD_SCRIPT = Path(__file__).with_name("rtsp_record_server.py")
TEST_PIPELINE = (
    "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


def has_rtsp_server() -> bool:
    """Return whether Debian's GStreamer RTSP server can be run here."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0')"
    with suppress(OSError):
        return subprocess.run([DEBIAN_PYTHON, "-c", check], capture_output=True).returncode == 0
    return False


needs_rtsp_server = pytest.mark.skipif(
    not has_rtsp_server(),
    reason="needs gir1.2-gst-rtsp-server-1.0, python3-gi and GStreamer's plugins",
)


@contextmanager
def rtsp_server(
    pipeline: str = TEST_PIPELINE, *auth: str, port: int = 0
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run a GStreamer RTSP server; yield its port and process. ``auth``: method, user, password."""
    with _script(RTSP_SCRIPT, str(port), pipeline, *auth) as running:
        yield running


@contextmanager
def rtsp_receiver(
    path: Path, *auth: str, port: int = 0
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run an RTSP server that keeps what is sent to ``/live`` as bare H.264 in ``path``.

    Yields its port and process. ``auth``: user, password.
    """
    with _script(RTSP_RECORD_SCRIPT, str(port), str(path), *auth) as running:
        yield running


@contextmanager
def _script(script: Path, *arguments: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [DEBIAN_PYTHON, str(script), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline().split()
        assert said[:1] == ["ready"], "the RTSP server did not start"
        yield int(said[1]), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def tcp_server(serve: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """Accept connections and let ``serve`` talk on each until the event is set; yield the port."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    workers: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection, over)

    def accept() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(5)
                workers.append(threading.Thread(target=handle, args=(connection,)))
                workers[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        acceptor.join()
        for worker in workers:
            worker.join()
        listener.close()


def send_then_stall(data: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Return a server that sends ``data`` and then keeps the connection open in silence."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(data)
        over.wait(60)

    return serve


def send_then_close(data: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Return a server that sends ``data`` and closes the connection."""
    return lambda connection, _: connection.sendall(data)


class _Handler(BaseHTTPRequestHandler):
    """Files with byte ranges, ``/stream.mjpg`` as multipart, ``/401`` … as errors."""

    def __init__(self, folder: Path, *args: object) -> None:
        self.folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        with suppress(OSError):
            name = self.path.strip("/")
            if name.isdigit():
                self.send_error(int(name))
            elif name == "moved":
                self.send_response(302)
                self.send_header("Location", "/drive.mp4")
                self.end_headers()
            elif name == "stream.mjpg":
                self._send_mjpeg()
            elif (self.folder / name).is_file():
                self._send_file((self.folder / name).read_bytes())
            else:
                self.send_error(404)

    def _send_file(self, data: bytes) -> None:
        asked = self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[first:])

    def _send_mjpeg(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for picture in sorted(self.folder.glob("*.jpg")):
            data = picture.read_bytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def http_server(folder: Path) -> Iterator[int]:
    """Serve ``folder`` over HTTP; yield the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, folder))
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
