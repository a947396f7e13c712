"""User and password in an address, typed as they are."""

from __future__ import annotations

import re
from urllib.parse import quote

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(.*)", re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}")
_IPV4 = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:[:/?#]|$)")
_ESCAPED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


def escaped_login(text: str) -> str:
    """Return an address with ``/``, ``?`` and ``#`` in its password percent-encoded.

    Such a sign would end the host. What tells it from an ``@`` in a path: no port follows the
    host's colon, or the host has no dot and an IPv4 address comes behind the last ``@``. All up
    to that one is user and password.

    >>> escaped_login("rtsp://admin:a/b#c@10.0.0.5/live")
    'rtsp://admin:a%2Fb%23c@10.0.0.5/live'
    >>> escaped_login("rtsp://10.0.0.5:554/live@home")
    'rtsp://10.0.0.5:554/live@home'
    """
    match = _ADDRESS.match(text)
    if match is None:
        return text
    scheme, rest = match.groups()
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, colon, port = host.partition(":")
    login, _, place = rest.rpartition("@")
    if not colon or not login.startswith(host) or user.startswith("["):
        return text
    plain = "@" in host or _PORT.fullmatch(port)
    if plain and not (_IPV4.match(place) and "." not in host and "://" not in login):
        return text
    password = login[len(user) + 1 :]
    safe = "%" if _ESCAPED.fullmatch(password) else ""
    return f"{scheme}{user}:{quote(password, safe=safe)}@{place}"
