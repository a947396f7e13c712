"""Damages bytes and texts with a seed, for ``benchmarks/fuzz.py``."""

from __future__ import annotations

import random

NUMBERS = (
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\1",
)
WORDS = (
    "", "\0", "\n", "//", "../", "%", "%s", "%06d", "%99999999d", "{}", "[", "]", "-", "--", "=",
    "@", ":", "://", "#", "'", '"', "\\", "1e999", "NaN", "-1", "0", "99999999999999999999", "null",
    "true", "[[[[", "é", "\u202e", "\ud800", "😀", "🇺🇳" * 50, "a" * 5000, "rtsp", "file", "lavfi:",
    "testsrc", "user:pa:ss@", "[::1", "[::1]", ":99999", ":-1", "?token=x", "*", "**/*", "~",
)  # fmt: skip


def mutate_bytes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return a damaged copy of some bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 12))):
        if not out:
            break
        at = rng.randrange(len(out))
        # heads and tails are where formats keep what matters
        if rng.random() < 0.3:
            at = min(len(out) - 1, rng.randrange(64))
        step = rng.randrange(8)
        if step == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif step == 1:
            out[at] = rng.randrange(256)
        elif step == 2:
            number = rng.choice(NUMBERS)
            out[at : at + len(number)] = number
        elif step == 3:
            del out[at:]
        elif step == 4:
            del out[at : at + rng.randrange(1, 400)]
        elif step == 5:
            length = rng.randrange(1, 400)
            out[at:at] = out[at : at + length]
        elif step == 6:
            start = rng.randrange(len(other) or 1)
            out[at:at] = other[start : start + rng.randrange(1, 2000)]
        else:
            out[at : at + 64] = rng.randbytes(rng.randrange(64))
    return bytes(out)


def mutate_text(text: str, other: str, rng: random.Random) -> str:
    """Return a damaged copy of a text."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(text) + 1)
        length = rng.randrange(1, 12)
        step = rng.randrange(6)
        if step == 0:
            text = text[:at] + rng.choice(WORDS) + text[at:]
        elif step == 1:
            text = text[:at] + rng.choice(WORDS) + text[at + length :]
        elif step == 2:
            text = text[:at] + text[at + length :]
        elif step == 3:
            text = text[:at] + chr(rng.randrange(1, 0x3000)) + text[at:]
        elif step == 4:
            start = rng.randrange(len(other) + 1)
            text = text[:at] + other[start : start + 40] + text[at:]
        else:
            text = text[:at]
    return text
