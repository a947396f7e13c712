"""Log lines on stderr, as text for people or as JSON for machines."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Literal

LOGGER = "rtseg"
"""Every logger of the package is a child of this one."""

NOTICE = 25
"""Level of what is said without ``-v`` and is no warning: where the live page is."""

logging.addLevelName(NOTICE, "NOTICE")


class _TextFormatter(logging.Formatter):
    def __init__(self, program: str, *, timed: bool) -> None:
        super().__init__()
        self._program = program
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        moment = time.localtime(record.created)
        when = time.strftime("%Y-%m-%d %H:%M:%S ", moment) if self._timed else ""
        level = "" if record.levelno in (logging.INFO, NOTICE) else f"{record.levelname.lower()}: "
        return f"{when}{self._program}: {level}{record.getMessage()}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.gmtime(record.created)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        reason = getattr(record, "reason", None)
        if reason:
            line["reason"] = reason
        return json.dumps(line)


def set_up_logging(
    form: Literal["text", "json"],
    *,
    quiet: bool,
    verbose: int,
    program: str = "rt-seg",
    times: bool = False,
) -> None:
    """Send the package's log lines to stderr.

    Args:
        form: ``text`` or ``json`` (one object a line: time, level, logger, message, reason).
        quiet: errors only.
        verbose: 0 warnings and notices, 1 information, 2 everything.
        program: the command's name, with which lines of text begin.
        times: whether lines of text have the time (local) before it, with ``verbose`` and where
            stderr is no terminal, unless systemd's journal, which has its own, takes them.
    """
    handler = logging.StreamHandler(sys.stderr)
    kept = not sys.stderr.isatty() and "JOURNAL_STREAM" not in os.environ
    plain = _TextFormatter(program, timed=times and (verbose > 0 or kept))
    handler.setFormatter(_JsonFormatter() if form == "json" else plain)
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [handler]
    logger.propagate = False
    levels = (NOTICE, logging.INFO, logging.DEBUG)
    logger.setLevel(logging.ERROR if quiet else levels[min(verbose, 2)])
