"""What TensorRT says: to the build in progress, or kept for the error of a run."""

from __future__ import annotations

import logging
from typing import Any, Protocol

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Takes the messages of a build; see ``ILogger.log``."""

    def logged(self, severity: Any, message: str) -> None:
        """Take a message."""

    def stop(self, error: BaseException) -> None:
        """Take what was raised while a message was taken."""


_loggers: dict[str, Any] = {}


def logger_of(trt: Any) -> Any:
    """Return the process's one logger: TensorRT ignores a second while the first is in use.

    Its ``build`` is the listener of the build in progress, or None; ``last_error`` is what was
    said last of an error outside builds.
    """
    name = str(trt.__name__)
    if name in _loggers:
        return _loggers[name]

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Hands messages to the build in progress."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.build: Listener | None = None
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            build = self.build
            try:
                if build is not None:
                    build.logged(severity, message)
                elif severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                    self.last_error = one_line(message)
                    _log.debug("%s", message)
            except BaseException as error:
                if build is not None:
                    build.stop(error)

    _loggers[name] = Logger()
    return _loggers[name]


def one_line(text: str, limit: int = 240) -> str:
    """Return a message without line ends, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
