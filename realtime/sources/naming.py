"""How a source is called in front of people: on one line, and never with a password."""

from __future__ import annotations

import re

LONGEST = 200
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

    >>> stem_of("live/cam 1?x=2", "stream")
    'live_cam_1_x_2'
    """
    stem = re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("._-")
    return stem[:80] or default
