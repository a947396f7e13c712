"""A real X display without a screen, for one test: Xvfb."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

needs_xvfb = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")


@contextmanager
def xvfb(*screens: str) -> Iterator[str]:
    """Run Xvfb with ``screens`` (such as ``640x480x24``); yield the value for DISPLAY."""
    reader, writer = os.pipe()
    layout = [part for n, size in enumerate(screens) for part in ("-screen", str(n), size)]
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), *layout, "-nolisten", "tcp", "-noreset"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as said:
            number = said.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        process.terminate()
        process.wait()
