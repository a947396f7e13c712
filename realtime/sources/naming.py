"""How a source is called in front of people: on one line, and never with a password."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200
LONGEST_STEM = 160
"""Bytes of a stem, as a file's name has at most 255."""

_USERINFO = re.compile(r"(?<=://).+@", re.DOTALL)
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&;/][^=&;#/]*(?:pass|pwd|token|key|secret|auth|user|login|sig|cred)[^=&;#]*=)[^&;#]*"
)


def shown(text: str) -> str:
    """Return what a user typed, fit to be printed.

    Everything between ``://`` and the last ``@`` is hidden (a password typed without
    escaping may hold any character), as are parameters that look like secrets.
    Control characters are escaped, and very long text is cut.

    >>> shown("rtsp://admin:p%40ss@10.0.0.5/live?token=abc&channel=1")
    'rtsp://***@10.0.0.5/live?token=***&channel=1'
    """
    text = _USERINFO.sub("***@", text)
    text = _SECRET_PARAMETER.sub(r"\1***", text)
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def stem_of(text: str, default: str) -> str:
    """Return a short name for output files: letters, digits, ``-``, ``_`` and inner dots.

    Letters of any script stay, composed (NFC).

    >>> stem_of("live/cam 1?x=2", "stream")
    'live_cam_1_x_2'
    >>> stem_of("ä ö#%d?", "video")
    'ä_ö_d'
    """
    text = unicodedata.normalize("NFC", text)
    plain = "".join(c if c in "_.-" or _is_of_a_word(c) else " " for c in text)
    stem = "_".join(plain.split()).strip("._-")[:80]
    return stem.encode()[:LONGEST_STEM].decode(errors="ignore") or default


def _is_of_a_word(character: str) -> bool:
    """Return whether it is a letter, a digit, or a sign over or under one."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
