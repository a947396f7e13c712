"""User and password in an address, typed as they are."""

from __future__ import annotations

import re
from urllib.parse import quote

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(.*)", re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}")
_ESCAPED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


def escaped_login(text: str) -> str:
    """Return an address with ``/``, ``?`` and ``#`` in its password percent-encoded.

    Such a sign would end the host, which is then followed by no port: that is how it is told
    from an ``@`` in a path. All up to the last ``@`` is user and password.

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
    if "@" in host or "@" not in rest or not colon or user.startswith("[") or _PORT.fullmatch(port):
        return text
    login, _, place = rest.rpartition("@")
    password = login[len(user) + 1 :]
    safe = "%" if _ESCAPED.fullmatch(password) else ""
    return f"{scheme}{user}:{quote(password, safe=safe)}@{place}"
