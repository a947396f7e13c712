from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.errors import UsageError
from rtseg.realtime.web.address import WebAddress, is_web, parse_web


@pytest.mark.parametrize(
    ("text", "host", "port", "local"),
    [
        ("web", "127.0.0.1", 8080, True),
        (" WEB ", "127.0.0.1", 8080, True),
        ("web:0", "127.0.0.1", 0, True),
        ("web:9000", "127.0.0.1", 9000, True),
        ("http://localhost:80", "127.0.0.1", 80, True),
        ("http://127.0.0.5:80/", "127.0.0.5", 80, True),
        ("http://[::1]:80", "::1", 80, True),
        ("http://0.0.0.0:8080", "0.0.0.0", 8080, False),
        ("http://[::]:8080", "::", 8080, False),
        ("http://192.168.1.7:8080", "192.168.1.7", 8080, False),
        ("http://camera-7.lan:8080", "camera-7.lan", 8080, False),
    ],
)
def test_forms(text: str, host: str, port: int, local: bool) -> None:
    assert is_web(text)
    address = parse_web(text)
    assert address == WebAddress(host, port)
    assert address.local is local


@pytest.mark.parametrize(
    "text",
    [
        "web:", "web:x", "web:70000", "web:-1", "http://", "http://host", "http://:80",
        "http://host:port", "http://host:80/page", "http://host:80?x=1", "http://ho st:80",
        "http://host:99999", "https://host:80", "http:host", "http://[::1:80", "http://a..b:80",
    ],
)  # fmt: skip
def test_what_is_no_address_says_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_web(text)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        parse_web("http://user:secret@0.0.0.0:8080")
    assert "secret" not in str(caught.value)


@given(st.text(max_size=60).map(lambda text: f"http://{text}"))
def test_any_text_is_an_address_or_a_usage_error(text: str) -> None:
    try:
        address = parse_web(text)
    except UsageError:
        return
    assert 0 <= address.port <= 65535
    assert parse_web(address.url) == address
