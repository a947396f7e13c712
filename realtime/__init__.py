"""Realtime: the capture → infer → render loop and the command ``rt-seg``.

The public names are loaded when they are first used, so importing this package costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtseg.realtime.api import Result, Segmenter
    from rtseg.realtime.errors import RealtimeError, SinkError, SourceError, UsageError
    from rtseg.realtime.frame import Frame, Rendered, SourceInfo
    from rtseg.realtime.overlay import Renderer
    from rtseg.realtime.pipeline import Pipeline
    from rtseg.realtime.profile import Profiler
    from rtseg.realtime.sinks.resolve import open_sink
    from rtseg.realtime.sinks.sink import Sink, SinkContext
    from rtseg.realtime.sources.resolve import SourceOptions, open_source
    from rtseg.realtime.sources.source import Source
    from rtseg.realtime.throttle import FlowOptions
    from rtseg.realtime.view import ViewOptions

_HOMES = {
    "FlowOptions": "throttle",
    "Frame": "frame",
    "Pipeline": "pipeline",
    "Profiler": "profile",
    "RealtimeError": "errors",
    "Rendered": "frame",
    "Renderer": "overlay",
    "Result": "api",
    "Segmenter": "api",
    "Sink": "sinks.sink",
    "SinkContext": "sinks.sink",
    "SinkError": "errors",
    "Source": "sources.source",
    "SourceError": "errors",
    "SourceInfo": "frame",
    "SourceOptions": "sources.resolve",
    "UsageError": "errors",
    "ViewOptions": "view",
    "open_sink": "sinks.resolve",
    "open_source": "sources.resolve",
}

__all__ = [
    "FlowOptions",
    "Frame",
    "Pipeline",
    "Profiler",
    "RealtimeError",
    "Rendered",
    "Renderer",
    "Result",
    "Segmenter",
    "Sink",
    "SinkContext",
    "SinkError",
    "Source",
    "SourceError",
    "SourceInfo",
    "SourceOptions",
    "UsageError",
    "ViewOptions",
    "open_sink",
    "open_source",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
