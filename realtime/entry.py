"""Where the installed command ``rt-seg`` begins, before anything is imported."""

from __future__ import annotations

import signal


def command() -> None:
    """Run :func:`rtseg.realtime.cli.command`.

    Until the run minds signals itself, Ctrl-C ends the process at once: Python's own exception
    would come as a traceback out of whatever is being imported.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from rtseg.realtime.cli import command as run

    run()
