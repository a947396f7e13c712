"""Imports OpenVINO without its conversion tools, and so without its telemetry."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import Any

_TOOLS = "openvino.tools.ovc"

_lock = threading.Lock()


def load_openvino() -> Any:
    """Return the module ``openvino``, importing it if need be.

    An ordinary ``import openvino`` also imports its conversion tools, which start a process
    that reports the import to a web service, and which take as long as all the rest of it.
    Nothing here converts with them; whoever does can still import ``openvino.tools.ovc``.

    Raises:
        ImportError: it is not installed, or broken.
    """
    with _lock:
        if "openvino" in sys.modules or _TOOLS in sys.modules:
            return import_module("openvino")
        # openvino/__init__.py goes on without the tools where they cannot be imported.
        sys.modules[_TOOLS] = None  # type: ignore[assignment]
        try:
            return import_module("openvino")
        finally:
            del sys.modules[_TOOLS]
