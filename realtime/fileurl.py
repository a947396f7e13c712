"""``file://`` addresses (RFC 8089) as paths."""

from __future__ import annotations

import os
import re

_SCHEME = re.compile(r"file:(?://(?:localhost(?=/))?)?", re.IGNORECASE)
_ENCODED = re.compile(rb"%([2-9a-fA-F][0-9a-fA-F])")


def path_of_url(text: str) -> str | None:
    """Return the path that a ``file:`` address means, None where it is no such address.

    What stands for control characters is left as it is: in names it is a pattern's number.

    >>> path_of_url("file:///videos/a%20b_%06d.png")
    '/videos/a b_%06d.png'
    >>> path_of_url("/videos/a%20b.mp4") is None
    True
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        return None
    encoded = os.fsencode(text[scheme.end() :])
    return os.fsdecode(_ENCODED.sub(lambda match: bytes.fromhex(match[1].decode()), encoded))


def plain_path(text: str) -> str:
    """Return a path as it was typed, or the one that a ``file:`` address means."""
    path = path_of_url(text)
    return text if path is None else path
