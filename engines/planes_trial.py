"""A first picture for an engine that takes planes, with a result that is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtseg.engines.engine import Engine, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.planes import BT601, Paint, Planes, YuvColours

_SIZES = (5, 7), (3, 4), (3, 4)
_LEVELS = 126, 100, 160
_COLOUR = 50, 60, 70


def try_planes(engine: Engine, submit: Callable[[Planes, YuvColours, Paint], Handle]) -> None:
    """Put a picture of one colour through and compare it with what the CPU makes of it.

    A driver, compiler or GPU on which the kernels do something else is found before any frame.

    Args:
        engine: takes the same colour as a frame.
        submit: its ``submit_planes``, without any preparation.

    Raises:
        EngineError: ``ENGINE_FAILED`` where the results differ, or as the engine fails.
    """
    y, u, v = (np.full(size, level, np.uint8) for size, level in zip(_SIZES, _LEVELS, strict=True))
    table = np.tile(np.array((*_COLOUR, 1), np.uint8), (256, 1))
    source, target = Planes(y, (u, v)), Planes(y.copy(), (u.copy(), v.copy()))
    labels = engine.result(submit(source, BT601, Paint(table, 0.5, target)))
    for part, level, colour in zip((target.y, *target.chroma), _LEVELS, _COLOUR, strict=True):
        if np.abs(part - (level + colour) / 2).max() > 1:
            raise EngineError(
                f"the GPU's kernels paint wrongly: {(level + colour) // 2} was to come out. "
                f"Received: {part.min()} to {part.max()}",
                reason="ENGINE_FAILED",
            )
    black, luma, red_v, green_u, green_v, blue_u = BT601.to_rgb()
    grey, blue, red = luma * (_LEVELS[0] - black), _LEVELS[1] - 128, _LEVELS[2] - 128
    rgb = (grey + red_v * red, grey + green_u * blue + green_v * red, grey + blue_u * blue)
    frame = np.empty((*labels.shape, 3), np.uint8)
    frame[:] = np.rint(np.clip(rgb, 0, 255)).astype(np.uint8)
    same = float((engine.infer(frame) == labels).mean())
    if same < 0.99:
        raise EngineError(
            f"the GPU's kernels resize wrongly: of a picture of one colour, {same:.0%} of the "
            "pixels have the class that they have without them",
            reason="ENGINE_FAILED",
        )
