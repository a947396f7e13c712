"""TLS in front of a server that speaks without, with a certificate made on the spot."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a self-signed certificate for a host (``IP:…`` or ``DNS:…``) and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={name}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@contextmanager
def tls_in_front_of(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Pass on what comes over TLS to ``port``, and back; yield the port for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    workers: list[threading.Thread] = []

    def pass_on(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(60)
            outside = context.wrap_socket(connection, server_side=True)
            with outside, socket.create_connection(("127.0.0.1", port)) as inside:
                outside.setblocking(False)
                inside.settimeout(0.02)
                while not over.is_set():
                    with suppress(ssl.SSLWantReadError):
                        data = outside.recv(65536)
                        inside.settimeout(60)
                        inside.sendall(data)
                        inside.settimeout(0.02)
                        if not data:
                            return
                        continue
                    with suppress(TimeoutError):
                        data = inside.recv(65536)
                        outside.settimeout(60)
                        outside.sendall(data)
                        outside.setblocking(False)
                        if not data:
                            return

    def accept() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                workers.append(threading.Thread(target=pass_on, args=(connection,)))
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
