"""Who gets in: hosts, origins, tokens, paths; against a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from rtseg.realtime.errors import UsageError
from rtseg.realtime.web.access import check_token, new_token
from tests.realtime.web.parts import TOKEN, Fed, page

PATHS = ("/", "/stream.mjpg", "/snapshot.png", "/state.json")


@pytest.fixture(scope="module")
def open_page() -> Iterator[Fed]:
    with page() as fed:
        yield fed


@pytest.fixture(scope="module")
def locked() -> Iterator[Fed]:
    with page(host="0.0.0.0", token=TOKEN) as fed:
        yield fed


def status(fed: Fed, path: str, **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.stream("GET", fed.url + path, headers=names, timeout=60) as answer:
        return answer.status_code


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:80", "LOCALHOST.", "127.0.0.9"],
)
def test_names_of_this_machine(open_page: Fed, host: str) -> None:
    assert status(open_page, "/", host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example",
        "192.168.1.7", "evil@localhost", "localhost/x", "", "[::1", "127.0.0.1 evil",
    ],
)  # fmt: skip
def test_other_names_are_refused_so_no_name_can_be_rebound(open_page: Fed, host: str) -> None:
    assert status(open_page, "/", host=host) in (400, 421)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "x"])
def test_other_origins_are_refused(open_page: Fed, origin: str) -> None:
    for path in PATHS:
        assert status(open_page, path, origin=origin) == 403
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(
            f"ws://{open_page.host}/ws",
            origin=origin,
            open_timeout=60,  # type: ignore[arg-type]
        ),
    ):
        pass
    assert caught.value.response.status_code == 403


def test_the_page_s_own_origin_is_welcome(open_page: Fed) -> None:
    own = f"http://{open_page.host}"
    assert status(open_page, "/state.json", origin=own) == 200
    with connect(f"ws://{open_page.host}/ws", origin=own, open_timeout=60) as wire:  # type: ignore[arg-type]
        assert "about" in str(wire.recv(timeout=60))


def test_other_sites_cannot_embed_the_video(open_page: Fed) -> None:
    for site in ("cross-site", "same-site"):
        embedding = {"sec_fetch_site": site, "sec_fetch_mode": "no-cors"}
        assert status(open_page, "/stream.mjpg", **embedding) == 403
        assert status(open_page, "/", sec_fetch_site=site, sec_fetch_mode="navigate") == 200


def test_without_the_token_nothing_is_served(locked: Fed) -> None:
    for path in (*PATHS, "/absent", f"/stream.mjpg?token={TOKEN}"):
        assert status(locked, path) == 401
    assert status(locked, "/", cookie=f"rtseg_{locked.sink.address.port}={TOKEN}") == 401
    with pytest.raises(InvalidStatus), connect(f"ws://{locked.host}/ws", open_timeout=60):
        pass
    asks = httpx.get(locked.url + "/", timeout=60)
    assert "token" in asks.text
    assert TOKEN not in asks.text


@pytest.mark.parametrize("wrong", ["x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ä" * 9, "%00"])
def test_wrong_tokens(locked: Fed, wrong: str) -> None:
    answer = httpx.get(locked.url + "/", params={"token": wrong}, timeout=60)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    header = f"Bearer {wrong}".encode()
    assert httpx.get(locked.url, headers={"authorization": header}, timeout=60).status_code == 401


def test_the_token_becomes_a_cookie_that_opens_everything(locked: Fed) -> None:
    with httpx.Client(base_url=locked.url, timeout=60) as client:
        entered = client.get("/", params={"token": TOKEN})
        assert entered.status_code == 200
        cookie = entered.headers["set-cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert client.get("/state.json").status_code == 200
        assert client.get("/snapshot.png").headers["content-type"] == "image/png"
        assert "set-cookie" not in client.get("/").headers
    pair = cookie.split(";")[0]
    with connect(
        f"ws://{locked.host}/ws", additional_headers={"cookie": f"a=b; {pair}"}, open_timeout=60
    ) as wire:
        assert "about" in str(wire.recv(timeout=60))
    assert status(locked, "/state.json", cookie=f"{pair}x") == 401


def test_programs_may_send_the_token_as_a_header(locked: Fed) -> None:
    assert status(locked, "/state.json", authorization=f"Bearer {TOKEN}") == 200
    assert status(locked, "/state.json", authorization=f"Basic {TOKEN}") == 401


def test_a_public_page_takes_addresses_and_its_own_name_only(locked: Fed) -> None:
    known = {"authorization": f"Bearer {TOKEN}"}
    for host in ("192.168.1.7:8080", socket.gethostname(), "[fe80::1]:8080"):
        assert status(locked, "/state.json", host=host, **known) == 200
    assert status(locked, "/state.json", host="evil.example", **known) == 421


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd", "/page/style.css", "/stream.mjpg/../../x", "/static/../app.py",
        "/.%00/etc/passwd", "/snapshot.png%00.html", "/\\..\\etc\\passwd",
    ],
)  # fmt: skip
def test_there_are_no_paths_to_traverse(open_page: Fed, path: str) -> None:
    with socket.create_connection(("127.0.0.1", open_page.sink.address.port), timeout=60) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := raw.recv(65536):
            answer += part
    assert answer.split()[1] in (b"404", b"400")
    assert b"root:" not in answer


def test_the_page_allows_nothing_from_elsewhere(open_page: Fed) -> None:
    answer = httpx.get(open_page.url + "/", timeout=60)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    for outside in ("http://", "https://", "//"):
        for attribute in ("src=", "href=", "url(", "@import "):
            assert f'{attribute}"{outside}' not in answer.text
            assert f"{attribute}{outside}" not in answer.text
    assert "server" not in answer.headers


def test_tokens_that_can_be_used() -> None:
    assert check_token(new_token())
    assert new_token() != new_token()
    for wrong in (
        "",
        "short",
        "x" * 257,
        "with a space in it",
        "ümlaut-token-1",
        "semi;colon-token",
    ):
        with pytest.raises(UsageError) as caught:
            check_token(wrong)
        assert not wrong or wrong not in str(caught.value)
