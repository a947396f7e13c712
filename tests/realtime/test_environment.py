"""What the loop runs on."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = "from rtseg.realtime.environment import peak_memory_mib; print(peak_memory_mib())"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_peak_is_the_process_own_not_its_parents() -> None:
    parent = (
        "import subprocess, sys\n"
        "ballast = bytearray(400 << 20)\n"
        f"print(subprocess.run([sys.executable, '-c', {CODE!r}], capture_output=True, "
        "text=True, check=True).stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True
    )
    assert 5 < float(done.stdout) < 300


def test_the_peak_grows_with_what_is_used() -> None:
    code = (
        "from rtseg.realtime.environment import peak_memory_mib\n"
        "before = peak_memory_mib()\n"
        "ballast = bytearray(b'x' * (100 << 20))\n"
        "print(peak_memory_mib() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 90
