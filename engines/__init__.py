"""Engines: what runs a segmentation network, and what an engine file says of itself.

The public names are loaded when they are first used, so importing this package costs
nothing and never pulls in a runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtseg.engines.engine import Engine, EngineTiming, Handle
    from rtseg.engines.errors import EngineError
    from rtseg.engines.registry import open_engine
    from rtseg.engines.spec import EngineSpec

__all__ = ["Engine", "EngineError", "EngineSpec", "EngineTiming", "Handle", "open_engine"]

_HOMES = {
    "Engine": "engine",
    "EngineTiming": "engine",
    "Handle": "engine",
    "EngineError": "errors",
    "EngineSpec": "spec",
    "open_engine": "registry",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
