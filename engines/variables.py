"""Environment variables that libraries set once the process has threads.

On Linux a new variable may move the environment, while another thread's C code (OpenVINO reading a
network, say) looks something up in it: that thread then reads freed memory, and the process dies.
A variable that is there already is set in place. So those that are known to come are made before
the threads are.
"""

from __future__ import annotations

import os
import sys

_COMING = {
    # OpenCV's import sets these whatever they were, or puts its own in front.
    "LD_LIBRARY_PATH": "",
    "QT_QPA_FONTDIR": "",
    "QT_QPA_PLATFORM_PLUGIN_PATH": "",
    # The AV1 encoder writes to stderr itself, whatever FFmpeg is told: errors only.
    "SVT_LOG": "1",
}


def make_variables() -> None:
    """Make the variables that are to come; those that exist keep their values.

    For the main thread, before any other one begins. Empty ones mean what missing ones mean to
    those who read them.
    """
    if sys.platform.startswith("linux"):
        for name, value in _COMING.items():
            os.environ.setdefault(name, value)
