"""Who may see the live page: hosts, origins and the token, before anything else is done."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rtseg.realtime.errors import UsageError
from rtseg.realtime.web.address import WebAddress

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LEAST_TOKEN = 12
"""Characters of the shortest token: short ones can be guessed."""

LONGEST_TOKEN = 256

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

_LOGIN_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
)
_LOGIN = """<!doctype html><html lang=en><meta charset=utf-8>
<meta name=viewport content="width=device-width,initial-scale=1"><title>rt-seg</title>
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;display:grid;
place-items:center;min-height:90vh;margin:0}form{display:grid;gap:.75rem;width:min(20rem,86vw)}
h1{font-size:1.1rem;margin:0}p{margin:0;opacity:.75}input,button{font:inherit;padding:.6rem .7rem;
border-radius:.5rem;border:1px solid #8888}button{background:#2563eb;color:#fff;border:0}</style>
<form method=get action=/><h1>rt-seg</h1><p>{said}</p>
<input name=token type=password autocomplete=current-password aria-label=Token placeholder=Token
required autofocus><button>Open the live page</button></form></html>"""


def check_token(token: str) -> str:
    """Return a token that can be used.

    Raises:
        UsageError: it is too short, too long, or has characters that no URL keeps. The token
            itself is not repeated.
    """
    plain = all(character.isalnum() or character in "-._~" for character in token)
    if not (LEAST_TOKEN <= len(token) <= LONGEST_TOKEN and plain and token.isascii()):
        raise UsageError(
            f"--web-token takes {LEAST_TOKEN} to {LONGEST_TOKEN} letters, digits, - . _ or ~. "
            f"Received: {len(token)} characters"
        )
    return token


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(18)


class Gate:
    """Lets requests through to an ASGI application, or answers them itself.

    - The ``Host`` must be an address, ``localhost`` or this machine's name: a page of another
      site whose name was pointed here (DNS rebinding) is refused. The port does not matter, so
      that one forwarded by SSH works.
    - ``Origin``, where a browser sends it, must be this page's own, and requests that a
      browser makes for other sites are refused: no site can open the websocket or embed the
      video.
    - With a token: ``?token=`` at ``/`` gives a cookie (HttpOnly, SameSite=Strict) that holds
      another secret, made for this run; programs may send ``Authorization: Bearer TOKEN``.
      Everything is compared in constant time.

    Args:
        app: the application.
        address: where it is served, with its true port.
        token: what visitors must know, or None where everybody on this machine may look.
    """

    def __init__(self, app: App, address: WebAddress, token: str | None) -> None:
        self._app = app
        self._address = address
        self._token = token
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"rtseg_{address.port}"
        self._names = {"localhost", address.host.lower().rstrip(".")}
        if not address.local:
            own = socket.gethostname().lower()
            self._names |= {own, own.split(".")[0], f"{own.split('.')[0]}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers)
        if refusal is not None:
            await self._refuse(scope, receive, send, *refusal)
            return
        entering = self._enters(scope)
        if not (entering or self._knows(headers)):
            said = "This page asks for a token: it was printed when rt-seg started."
            if entering is False:
                said = "That is not the token. It was printed when rt-seg started."
            await self._refuse(scope, receive, send, 401, said)
            return
        await self._app(scope, receive, self._with_headers(send, bool(entering)))

    def _refusal(self, headers: dict[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "")
        if not self._is_own(host):
            return 421, "this name does not belong to the live page"
        origin = headers.get(b"origin")
        if origin is not None and origin.lower() not in (
            f"http://{host.lower()}",
            f"https://{host.lower()}",
        ):
            return 403, "requests of other sites are refused"
        site = headers.get(b"sec-fetch-site", "none")
        navigates = headers.get(b"sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not navigates:
            return 403, "requests of other sites are refused"
        return None

    def _is_own(self, text: str) -> bool:
        try:
            parts = urlsplit(f"//{text}")
            name = (parts.hostname or "").rstrip(".")
        except ValueError:
            return False
        if not name or parts.netloc != text or "@" in text:
            return False
        if name in self._names:
            return True
        try:
            number = ipaddress.ip_address(name)
        except ValueError:
            return False
        return number.is_loopback or not self._address.local

    def _enters(self, scope: Scope) -> bool | None:
        """Return whether ``?token=`` is right; None where there is none to look at."""
        if self._token is None or scope["type"] != "http" or scope["path"] != "/":
            return None
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        return None if not given else _same(given[0], self._token)

    def _knows(self, headers: dict[bytes, str]) -> bool:
        if self._token is None:
            return True
        for pair in headers.get(b"cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self._cookie and _same(value, self._session):
                return True
        kind, _, given = headers.get(b"authorization", "").partition(" ")
        return kind.lower() == "bearer" and _same(given.strip(), self._token)

    def _with_headers(self, send: Send, entering: bool) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = list(SECURITY_HEADERS)
                if entering:
                    cookie = f"{self._cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
                    extra.append((b"set-cookie", cookie.encode()))
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        return sending

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, status: int, said: str
    ) -> None:
        if scope["type"] == "websocket":
            await receive()  # the handshake
            await send({"type": "websocket.close", "code": 1008})
            return
        asks = status == 401 and scope["path"] == "/"
        body = (_LOGIN.replace("{said}", said) if asks else said + "\n").encode()
        kind = b"text/html; charset=utf-8" if asks else b"text/plain; charset=utf-8"
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        if asks:
            headers.append((b"content-security-policy", _LOGIN_POLICY))
        sending = self._with_headers(send, entering=False)
        await sending({"type": "http.response.start", "status": status, "headers": headers})
        await sending({"type": "http.response.body", "body": body})


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("latin-1", "replace"), wanted.encode())
