"""Processes that an output starts for what must not end or hang the loop."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO


def start_module(module: str, *words: str, complaints: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start one of our modules as a process with pipes for standard input and output, unbuffered.

    It has this process's import path, but not the folder that the user happens to be in, where a
    file may be called as a module is. Ctrl-C does not reach it.

    Args:
        module: its full name.
        words: its arguments.
        complaints: where its standard error goes.

    Raises:
        OSError: it cannot be started.
    """
    paths = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        bufsize=0,
        cwd="/",
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
