"""Text as OpenCV can draw it."""

from __future__ import annotations

import logging
import unicodedata

_log = logging.getLogger(__name__)

_PLAIN = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O",
     "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "–": "-", "—": "-", "’": "'"}
)  # fmt: skip
"""Letters and signs that Unicode does not take apart."""

_said: set[str] = set()


def drawable(text: str, *, unicode: bool | None = None) -> str:
    """Return text with nothing in it that OpenCV's ``putText`` cannot take.

    OpenCV 5 has letters of most scripts with it. OpenCV 4 draws ASCII alone: letters lose their
    accents there, and what is left is a question mark, which is logged once for each text.

    Args:
        text: one line.
        unicode: whether OpenCV draws other letters than ASCII's; None asks it.

    >>> drawable("Straße, 道路, café", unicode=False)
    'Strasse, ??, cafe'
    """
    # Half a pair of surrogates, as file names that are no UTF-8 have, crashes OpenCV.
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    if text.isascii() or (_draws_unicode() if unicode is None else unicode):
        return text
    apart = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    letters = "".join(sign for sign in apart if not unicodedata.combining(sign))
    plain = letters.encode("ascii", "replace").decode()
    if plain.count("?") > text.count("?") and text not in _said:
        _said.add(text)
        _log.warning("%r is shown as %r: OpenCV 4 draws ASCII alone, OpenCV 5 more", text, plain)
    return plain


def _draws_unicode() -> bool:
    import cv2

    return hasattr(cv2, "FontFace")
