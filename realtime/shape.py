"""A shipped network's input takes the shape of a source that is too narrow for it.

A portrait frame in the middle of a landscape input leaves most of it gray, and is seen at a
third of the pixels that the same work could look at.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable

from rtseg.engines.engine import Engine
from rtseg.engines.fit import true_aspect
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.log import NOTICE

_log = logging.getLogger("rtseg.realtime")

NARROW = 1.3
"""Width over height below which frames get an input of their shape; those that ship are of 4:3."""

SQUEEZE = 0.75
"""Width over height of the input against the frame's, as of 16:9 in 4:3: the network was trained
with frames about as much narrower. Measured in ``docs/evaluation.md``."""

NARROWEST = 0.2
"""No input is made for frames below it; they lie in the middle of this one's."""

STEP = 32
"""Sides of the networks that ship are multiples of it."""

LEAST_WORK, MOST_WORK = 0.94, 1.03
"""Pixels of the new input against those of the old one."""


def narrow_shape(info: SourceInfo) -> float | None:
    """Return width over height of a source's pictures on a screen, where that is a narrow one.

    None for wide ones, and for several pictures, each of which may have another shape.
    """
    aspect = true_aspect(float(info.sample_aspect_ratio))
    return narrow(info.width * aspect / info.height) if len(info.pictures) < 2 else None


def narrow(shape: float) -> float | None:
    """Return a shape, width over height, where it is a narrow one, else None."""
    return shape if shape < NARROW else None


def can_be_shaped(engine: Engine) -> bool:
    """Return whether another size of a shipped network takes no time; for GPUs it is built."""
    return engine.profile().backend in ("openvino", "onnxruntime")


def size_like(shape: float, pixels: int) -> tuple[int, int]:
    """Return width and height of the input for a shape of frames: multiples of 32.

    Args:
        shape: width over height of the frames.
        pixels: that the input may have, more or less.
    """
    wanted = SQUEEZE * max(shape, NARROWEST)
    best, least = (STEP, STEP), math.inf
    for width in range(STEP, math.isqrt(pixels) + STEP, STEP):
        for height in range(STEP, round(MOST_WORK * pixels / width) + 1, STEP):
            if width * height < LEAST_WORK * pixels:
                continue
            off = abs(math.log(width / height / wanted))
            if off < least:
                best, least = (width, height), off
    return best


def shaped(
    engine: Engine,
    options: argparse.Namespace,
    info: SourceInfo,
    open_at: Callable[[tuple[int, int]], Engine],
) -> Engine:
    """Return an engine whose input suits the source: the one given, or another for as much work.

    Args:
        engine: a shipped network, open; closed where another takes its place.
        options: the command's. A file or a size that the user named stays as it is.
        info: the source, open.
        open_at: opens the network with an input of some width and height.

    Raises:
        EngineError: the other cannot be opened.
    """
    shape = narrow_shape(info)
    named = options.engine is not None or options.input_size is not None
    if shape is None or named or not can_be_shaped(engine):
        return engine
    spec, chosen = engine.spec, engine.quality
    engine.close()
    width, height = size_like(shape, spec.width * spec.height)
    engine = open_at((width, height))
    said = f"input {width}x{height} for pictures of {info.width}x{info.height}"
    _log.log(NOTICE, "%s", said)
    engine.quality = f"{chosen}; {said}" if chosen else said
    return engine
