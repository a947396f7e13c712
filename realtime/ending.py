"""What ends a command before or after its work: closed streams, output that cannot be written."""

from __future__ import annotations

import errno
import io
import os
import sys

from rtseg.engines.wholefile import is_full


def open_closed_streams() -> None:
    """Give what is printed somewhere to go where a stream was closed before the start."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without UTF-8 gets a question mark for a dash, not an error for a table.
        sys.stdout.reconfigure(errors="replace")


def give_up_output() -> None:
    """Print nothing more: what could not be written is no second error when Python ends."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def reason_and_text(error: Exception) -> tuple[str, str]:
    """Return an error's stable reason word, and what is said of it.

    Args:
        error: ours have a ``reason``; of others the kind tells it, or it is ``INTERNAL``.
    """
    # Python's own have a reason, too: a sentence.
    if (reason := getattr(error, "reason", "")) and not isinstance(error, UnicodeError):
        return str(reason), str(error)
    if isinstance(error, MemoryError):
        return "NO_MEMORY", str(error) or "the machine has no memory left"
    if isinstance(error, ImportError) and (missing := _missing_library(error)):
        return "NOT_INSTALLED", missing
    if not isinstance(error, OSError):
        return "INTERNAL", f"unexpected {type(error).__name__}: {error} (--debug shows where)"
    what = f"{error.filename}: " if error.filename is not None else ""
    text = f"{what}{error.strerror or error}"
    if is_full(error):
        return "NO_SPACE", text
    if error.errno == errno.EPIPE:
        return "OUTPUT_CLOSED", text
    return ("PERMISSION_DENIED" if isinstance(error, PermissionError) else "NOT_FOUND"), text


def _missing_library(error: ImportError) -> str:
    """Return what is said of a package that lacks a library of the system; empty for others."""
    library, failed, _ = str(error).partition(": cannot open shared object file")
    if not failed:
        return ""
    if error.name == "cv2":  # as in slim container images
        return (
            f"OpenCV needs {library}, which is not on this system. Allowed: apt install libgl1 "
            "libglib2.0-0 (Debian, Ubuntu), dnf install mesa-libGL glib2 (Fedora), or "
            "opencv-python-headless in opencv-python's place, without windows"
        )
    return f"{error.name or 'a package'} needs {library}, which is not on this system"
