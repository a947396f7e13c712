"""What is said of errors that are not ours."""

from __future__ import annotations

import errno
import re

import pytest

from rtseg.realtime.ending import reason_and_text
from rtseg.realtime.errors import SourceError

LIBRARY = "libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("error", "reason", "said"),
    [
        (SourceError("a word", reason="TIMEOUT"), "TIMEOUT", "a word"),
        (MemoryError(), "NO_MEMORY", "no memory left"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "NO_SPACE", "x: No space"),
        (PermissionError(errno.EACCES, "Permission denied"), "PERMISSION_DENIED", "denied"),
        (ImportError(LIBRARY, name="cv2"), "NOT_INSTALLED", "OpenCV needs libGL.so.1, .* libgl1 "),
        (ImportError(LIBRARY, name="av._core"), "NOT_INSTALLED", "^av._core needs libGL.so.1"),
        (ImportError("no such name"), "INTERNAL", "unexpected ImportError: no such name"),
        (ZeroDivisionError("by zero"), "INTERNAL", "unexpected ZeroDivisionError: by zero"),
    ],
)
def test_the_word_and_the_line(error: Exception, reason: str, said: str) -> None:
    found, text = reason_and_text(error)
    assert found == reason
    assert re.search(said, text)
    assert "\n" not in text
