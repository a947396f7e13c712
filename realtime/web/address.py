"""Where the live page is served: from what the user types to a host and a port."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from rtseg.realtime.errors import UsageError

DEFAULT_PORT = 8080
FORMS = "web, web:PORT, http://HOST:PORT"

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")


@dataclass(frozen=True)
class WebAddress:
    """An address to listen on.

    Attributes:
        host: a name, or an IPv4 or IPv6 address without brackets.
        port: TCP port; 0 takes a free one.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """The address as a browser takes it."""
        return f"http://{bracketed(self.host)}:{self.port}/"


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def is_web(text: str) -> bool:
    """Return whether an output's text means the live page, rightly written or not.

    >>> [is_web(text) for text in ("web", "web:9000", "http://0.0.0.0:80", "web.mp4")]
    [True, True, True, False]
    """
    return re.match(r"web(:|$)|https?:", text.strip(), re.IGNORECASE) is not None


def parse_web(text: str) -> WebAddress:
    """Return the address that a text means.

    Raises:
        UsageError: no form of :data:`FORMS`, or a port outside 0..65535.

    >>> parse_web("web"), parse_web("http://[::]:9000")
    (WebAddress(host='127.0.0.1', port=8080), WebAddress(host='::', port=9000))
    """
    plain = text.strip()
    if re.fullmatch(r"web", plain, re.IGNORECASE):
        return WebAddress()
    match = re.fullmatch(r"web:(\d{1,6})", plain, re.IGNORECASE)
    if match:
        return WebAddress(port=_port(int(match[1])))
    if plain.lower().startswith("https:"):
        raise UsageError(
            f"the live page speaks http; for https put a reverse proxy before it. Allowed: {FORMS}"
        )
    try:
        parts = urlsplit(plain)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"no address of a live page. Allowed: {FORMS}") from error
    if "@" in parts.netloc:  # it may be a password: not repeated
        raise UsageError(f"the live page takes no user name; see --web-token. Allowed: {FORMS}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"the live page has no path of its own. Allowed: {FORMS}")
    if parts.scheme != "http" or not host or port is None or not _is_host(host):
        raise UsageError(f"no address of a live page. Received: {plain!r}. Allowed: {FORMS}")
    return WebAddress("127.0.0.1" if host == "localhost" else host, _port(port))


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None and len(host) <= 253
    return True


def _port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise UsageError(f"a port is 0 (a free one) to 65535. Received: {port}")
    return port
