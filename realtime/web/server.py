"""The server of the live page: uvicorn in one thread, on a socket of our own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING

from rtseg.realtime.errors import SinkError
from rtseg.realtime.web.access import Gate
from rtseg.realtime.web.address import WebAddress

if TYPE_CHECKING:
    from rtseg.realtime.web.app import LivePage

_log = logging.getLogger(__name__)

SEND_BUFFER_BYTES = 256 * 1024
"""What the kernel may hold back for a slow reader: about two frames instead of dozens."""

MOST_CONNECTIONS = 96
FIRST_REQUEST_S = 10.0
MOST_MESSAGE_BYTES = 4096


class WebServer:
    """Serves a :class:`~rtseg.realtime.web.app.LivePage` from a thread of its own.

    Args:
        address: where to listen.
        token: what visitors must know, or None.
        make_page: makes the page, inside the server's event loop, with what encodes.

    Raises:
        SinkError: the address is in use (``BUSY``), not permitted or not of this machine.
    """

    def __init__(
        self,
        address: WebAddress,
        token: str | None,
        make_page: Callable[[Executor], LivePage],
    ) -> None:
        self._socket = _listen(address)
        self.address = WebAddress(address.host, int(self._socket.getsockname()[1]))
        self._token = token
        self._make_page = make_page
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="rtseg-web")
        self._thread.start()
        self._started.wait()
        self._raise_failure()

    def close(self) -> None:
        """End every connection and the thread. May be called more than once."""
        if self._loop is not None and self._closing is not None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended already
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._socket.close()

    def _raise_failure(self) -> None:
        if self._error is not None:
            self.close()
            raise SinkError(f"the live page cannot start: {self._error}") from self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
            _log.debug("live page: %s", error, exc_info=True)
        finally:
            self._started.set()

    async def _serve(self) -> None:
        import uvicorn

        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(_say_quietly)
        _quiet_libraries()
        with ThreadPoolExecutor(1, thread_name_prefix="rtseg-web-encode") as executor:
            page = self._make_page(executor)
            config = uvicorn.Config(
                Gate(page.app, self.address, self._token),
                loop="asyncio",
                http=_protocol(),
                ws="websockets-sansio",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                h11_max_incomplete_event_size=16 * 1024,
                ws_max_size=MOST_MESSAGE_BYTES,
                ws_ping_interval=20,
                ws_ping_timeout=20,
                ws_per_message_deflate=False,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=1,
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[self._socket]))
            closing = asyncio.create_task(self._closing.wait())
            try:
                while not server.started and not serving.done():
                    await asyncio.sleep(0.005)
                self._started.set()
                await asyncio.wait((serving, closing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await page.close()
                closing.cancel()
                server.should_exit = True
                await serving


def _listen(address: WebAddress) -> socket.socket:
    """Return a listening socket.

    Raises:
        SinkError: see :class:`WebServer`.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, place = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if family == socket.AF_INET6 and address.host == "::":
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(place)
            listener.listen(64)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise _complaint(address, error) from error
    return listener


def _complaint(address: WebAddress, error: OSError) -> SinkError:
    if error.errno == errno.EADDRINUSE:
        why, reason = "the port is in use", "BUSY"
    elif isinstance(error, socket.gaierror):
        why, reason = "no such host", "NOT_FOUND"
    elif error.errno == errno.EADDRNOTAVAIL:
        why, reason = "not an address of this machine", "NOT_FOUND"
    elif error.errno in (errno.EACCES, errno.EPERM):
        why, reason = "not permitted (ports below 1024 are the system's)", "PERMISSION_DENIED"
    else:
        why, reason = (error.strerror or str(error)).lower(), "FAILED"
    return SinkError(
        f"live page at {address.url}: {why}. Allowed: web:PORT with a free port, or "
        "http://HOST:PORT with an address of this machine",
        reason=reason,
    )


def _protocol() -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol, but a connection that asks nothing is closed.

    Otherwise silent connections could take all the places that there are.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Hurried(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(FIRST_REQUEST_S, self._close_if_silent)

        def _close_if_silent(self) -> None:
            asked = getattr(self, "cycle", None) is not None
            upgraded = self.transport.get_protocol() is not self
            if not (asked or upgraded):
                self.transport.close()

    return Hurried


class _ToDebug(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _log.debug("%s: %s", record.name, record.getMessage())


def _quiet_libraries() -> None:
    """Show the libraries' lines with ``-vv`` only, as ours: stderr is the run's."""
    for name in ("uvicorn", "aiortc", "aioice"):
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _ToDebug) for handler in logger.handlers):
            logger.addHandler(_ToDebug())
        logger.propagate = False


def _say_quietly(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    _log.debug("live page: %s", context.get("exception") or context.get("message"))
