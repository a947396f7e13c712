"""A reverse proxy that serves a page in a folder of its own, as nginx with ``location /cam/``."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator

FOLDER = b"/cam"


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            target.sendall(block)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def in_a_folder(port: int) -> Iterator[str]:
    """Serve what is at a port of this machine at the URL that is given, and nothing beside it."""

    class Visit(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                block = self.request.recv(1 << 16)
                if not block:
                    return
                head += block
            method, _, rest = head.partition(b" ")
            if not rest.startswith(FOLDER + b"/"):
                self.request.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            # one request a connection, so that each one's path is seen; websockets stay
            rest = re.sub(rb"(?i)\r\nconnection: keep-alive", b"\r\nConnection: close", rest)
            with socket.create_connection(("127.0.0.1", port)) as server:
                server.sendall(method + b" " + rest[len(FOLDER) :])
                back = threading.Thread(target=_pass_on, args=(server, self.request))
                back.start()
                _pass_on(self.request, server)
                back.join()

    class Proxy(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Proxy(("127.0.0.1", 0), Visit) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}{FOLDER.decode()}/"
        finally:
            proxy.shutdown()
            serving.join()
