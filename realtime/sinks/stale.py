"""A picture that is no longer now: marked with its age, so that nobody takes it for live."""

from __future__ import annotations

import numpy as np

from rtseg.realtime.frame import U8, SourceInfo

STALE_S = 1.5
"""From this age on the newest picture of a live source is stale (slow sources: three frames)."""

REMARK_S = 0.5
"""How often the age in the picture is written anew, in seconds."""

_DIM = 0.55


def stale_after_s(info: SourceInfo) -> float:
    """Return the age, in seconds, from which a picture of this live source is stale."""
    return max(STALE_S, 3 / float(info.fps)) if info.fps else STALE_S


def stale_text(age_s: float) -> str:
    """Return what is written into a stale picture.

    >>> stale_text(3.7), stale_text(3723)
    ('no new frame for 3 s', 'no new frame for 1:02:03')
    """
    minutes, seconds = divmod(int(age_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"no new frame for {hours}:{minutes:02}:{seconds:02}"
    return (
        f"no new frame for {minutes}:{seconds:02}" if minutes else f"no new frame for {seconds} s"
    )


def mark_stale(bgr: U8, age_s: float) -> U8:
    """Return a dimmed copy of a picture with its age across the middle.

    Args:
        bgr: uint8, H×W×3, blue first; not written to.
        age_s: how old the picture is, in seconds.
    """
    import cv2

    marked: U8 = np.asarray(cv2.convertScaleAbs(bgr, alpha=_DIM), np.uint8)
    height, width = marked.shape[:2]
    text, font = stale_text(age_s), cv2.FONT_HERSHEY_SIMPLEX
    (wide, tall), base = cv2.getTextSize(text, font, 1.0, 2)
    scale = min(0.8 * width / wide, 0.1 * height / tall)
    thickness = max(1, round(2 * scale))
    (wide, tall), base = cv2.getTextSize(text, font, scale, thickness)
    x, y = (width - wide) // 2, (height + tall) // 2
    cv2.rectangle(marked, (0, y - 2 * tall), (width, y + tall + base), (0, 0, 0), cv2.FILLED)
    cv2.putText(marked, text, (x, y), font, scale, (60, 200, 255), thickness, cv2.LINE_AA)
    return marked
