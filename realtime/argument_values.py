"""What options of the commands take: argparse types that say what is allowed."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from fractions import Fraction

from rtseg.realtime.errors import UsageError
from rtseg.realtime.web.address import WebAddress, parse_web

LARGEST = 2**31 - 1
"""What whole numbers may be at most: as counts of frames it lasts for two years."""

LARGEST_SIDE = 16384
"""Of a network's input, in pixels."""


def number(
    kind: Callable[[str], float], least: float, most: float = math.inf, *, above: bool = False
) -> Callable[[str], float]:
    """Return an argparse type for numbers within limits.

    Args:
        kind: ``int`` or ``float``.
        least: the smallest value allowed; excluded if ``above``.
        most: the largest value allowed; whole numbers end at :data:`LARGEST` in any case.
        above: whether ``least`` itself is excluded.
    """

    whole = bool(kind is int)

    def convert(text: str) -> float:
        word = "a whole number" if whole else "a number"
        limits = f"above {least:g}" if above else f"from {least:g}"
        limits += f" to {most:g}" if most < math.inf else " on"
        limits = limits.removesuffix(" on") if above else limits
        try:
            value = kind(text)
            if whole and value > LARGEST:
                limits = f"from {least:g} to {min(most, LARGEST)}"
                value = math.nan
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most) or (above and value == least):
            raise argparse.ArgumentTypeError(f"{word} {limits}. Received: {text!r}")
        return value

    return convert


def alpha(text: str) -> float:
    """Return an overlay weight of 0..1; explain what a percentage would be."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0.0 <= value <= 1.0:
        return value
    hint = f" (did you mean {value / 100:g}?)" if 1.0 < value <= 100.0 else ""
    raise argparse.ArgumentTypeError(f"a number from 0 to 1{hint}. Received: {text!r}")


def reconnect(text: str) -> int | None:
    """Return a number of tries, or None for ``forever``."""
    if text == "forever":
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"forever, or a whole number from 0. Received: {text!r}")


def seconds(text: str) -> Fraction:
    """Return seconds from ``60``, ``60s``, ``10m``, ``1h`` or ``1:30:00``.

    >>> seconds("10m"), seconds("1.5"), seconds("1:30")
    (Fraction(600, 1), Fraction(3, 2), Fraction(90, 1))
    """
    plain = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|min|h)?", text.strip(), re.ASCII)
    if plain:
        factor = {"h": 3600, "m": 60, "min": 60}.get(plain[2] or "s", 1)
        return Fraction(plain[1]) * factor
    clock = re.fullmatch(r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]\d)", text.strip(), re.ASCII)
    if clock:
        return Fraction(3600 * int(clock[1] or 0) + 60 * int(clock[2]) + int(clock[3]))
    raise argparse.ArgumentTypeError(f"a time such as 60s, 10m, 1h or 90. Received: {text!r}")


def input_size(text: str) -> tuple[int, int]:
    """Parse WxH into width and height."""
    width, _, height = text.lower().partition("x")
    if not re.fullmatch(r"0*[1-9]\d{0,4}x0*[1-9]\d{0,4}", text.lower(), re.ASCII):
        raise argparse.ArgumentTypeError(f"expected WxH, as in 960x544. Received: {text!r}")
    if max(int(width), int(height)) > LARGEST_SIDE:
        raise argparse.ArgumentTypeError(
            f"sides are {LARGEST_SIDE} at most, as in 960x544. Received: {text!r}"
        )
    return int(width), int(height)


def listen_address(text: str) -> WebAddress:
    """Return where to listen: ``PORT`` of this machine only, ``HOST:PORT`` or ``[IPv6]:PORT``.

    >>> listen_address("9464"), listen_address("[::]:9464")
    (WebAddress(host='127.0.0.1', port=9464), WebAddress(host='::', port=9464))
    """
    plain = f"127.0.0.1:{text}" if text.isdecimal() else text
    try:
        address = parse_web(f"http://{plain}")
    except UsageError:
        address = None
    if address is None or not address.port or plain.endswith("/"):
        received = "a user name" if "@" in text else repr(text)
        raise argparse.ArgumentTypeError(
            f"a port from 1 to 65535, HOST:PORT or [IPv6]:PORT. Received: {received}"
        )
    return address


def file_name(text: str) -> str:
    """Return a file's or folder's name, which is not empty (as of a shell's unset variable)."""
    if not text:
        raise argparse.ArgumentTypeError("the name of a file or folder. Received: ''")
    return text
