"""Values that commands take, for argparse."""

from __future__ import annotations

import argparse

from rtseg.realtime.argument_values import input_size

#: Each frame in flight has memory of its own in the engine.
MOST_IN_FLIGHT = 1024


def count(text: str) -> int:
    """Parse a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1. Received: {text}")
    return int(text)


def count_from_zero(text: str) -> int:
    """Parse a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0. Received: {text}")
    return int(text)


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1. Received: {text}")
    return number


def in_flight(text: str) -> int:
    """Parse a number of frames in flight: 0, which leaves it to the engine, to 1024."""
    number = count_from_zero(text)
    if number > MOST_IN_FLIGHT:
        raise argparse.ArgumentTypeError(f"expected 0 to {MOST_IN_FLIGHT}. Received: {text}")
    return number


def size(text: str) -> tuple[int, int]:
    """Parse WxH into (height, width)."""
    width, height = input_size(text)
    return height, width


def wide_first(value: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return (width, height) of what :func:`size` parsed; None of None."""
    return None if value is None else (value[1], value[0])
