"""The page itself: HTML with its style and script inside, and the policy that allows no other."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

_PARTS = ("style.css", "page.html", "plots.js", "video.js", "page.js")


@dataclass(frozen=True)
class Page:
    """One self-contained document.

    Attributes:
        html: the document.
        policy: its ``Content-Security-Policy``: nothing from elsewhere, no other script.
    """

    html: bytes
    policy: str


@lru_cache(maxsize=1)
def load_page() -> Page:
    """Put the parts in the folder ``assets`` together."""
    folder = files("rtseg.realtime.web").joinpath("assets")
    style, frame, *scripts = (folder.joinpath(name).read_text("utf-8") for name in _PARTS)
    script = "\n".join(["'use strict';", *scripts])
    html = frame.replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}'; "
        f"style-src 'sha256-{_digest(style)}'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return Page(html.encode(), policy)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
