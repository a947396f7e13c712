"""Signals before a run has begun; those in the middle are tried end to end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SWALLOWED = """
import os, signal, sys, weakref
from rtseg.realtime.signals import Signals

class Module: pass

signal.signal(int(sys.argv[1]), signal.SIG_DFL)  # whatever this suite was started under
with Signals():
    module = Module()
    # What an exception meets that is raised where Python lets go of a module's lock.
    watch = weakref.ref(module, lambda _: os.kill(os.getpid(), int(sys.argv[1])))
    del module
    print("still running")
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_at_the_start_is_never_swallowed(number: signal.Signals, code: int) -> None:
    """Found: it was, in the import machinery, whose lock then stayed locked."""
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED, str(int(number))], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_signal_that_is_to_be_ignored_is(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from rtseg.realtime.signals import Signals\n"
        "with Signals(): os.kill(os.getpid(), signal.SIGHUP); print('still running')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "still running\n")


def test_ctrl_c_while_the_command_is_imported_is_no_traceback() -> None:
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'rtseg.realtime.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from rtseg.realtime.entry import command\n"
        "command()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
