"""How good or how fast: the sizes in which a shipped network comes, with measured points.

``weights/quality.json`` is written by ``python -m rtseg.tools.ship_networks``, which makes the
engine files, judges each on labelled images and times it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from rtseg.engines.errors import EngineError

Quality = Literal["fast", "balanced", "best"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)
"""The levels, fastest first."""

DEFAULT_QUALITY: Quality = "balanced"

FILE_NAME = "quality.json"


@dataclass(frozen=True)
class QualityPoint:
    """What one size of a network gives, measured.

    Attributes:
        quality: the level it is shipped as.
        width: columns of the input, in pixels.
        height: rows of the input, in pixels.
        miou: mean IoU of the INT8 file in percent, on the validation images.
        pixel_accuracy: share of their pixels that are right, in percent.
        cpu_ms: CPU time for one frame of the network with upsampling and argmax, on the
            machine that made the table; tells speeds of machines apart.
    """

    quality: Quality
    width: int
    height: int
    miou: float
    pixel_accuracy: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.quality} ({self.width}x{self.height}, {self.miou:.1f} mIoU)"


def quality_points(model: str, folder: Path | None = None) -> tuple[QualityPoint, ...]:
    """Return the levels in which a shipped network comes, fastest first; empty where none do.

    Args:
        model: name of the network.
        folder: where to look instead of the package.

    Raises:
        EngineError: ``ENGINE_DAMAGED`` where the table cannot be read.
    """
    if folder is None:
        folder = Path(str(resources.files("rtseg.models"))) / "weights"
    path = folder / FILE_NAME
    try:
        levels = json.loads(path.read_text(encoding="utf-8"))[model]["levels"]
        points = [_point(quality, levels[quality]) for quality in QUALITIES if quality in levels]
    except FileNotFoundError:
        return ()
    except KeyError as error:
        if error.args == (model,):
            return ()
        raise _damaged(path, error) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    return tuple(points)


def size_of_quality(points: Sequence[QualityPoint], model: str, quality: str) -> tuple[int, int]:
    """Return width and height of a level.

    Raises:
        EngineError: there is no such level; lists those there are.
    """
    for point in points:
        if point.quality == quality:
            return point.width, point.height
    known = ", ".join(point.quality for point in points) or "none"
    raise EngineError(
        f"{model} does not come in quality {quality!r}. Available: {known}", reason="NOT_FOUND"
    )


def _point(quality: Quality, fields: dict[str, Any]) -> QualityPoint:
    width, height = (int(side) for side in fields["size"])
    return QualityPoint(
        quality,
        width,
        height,
        float(fields["miou"]),
        float(fields["pixel_accuracy"]),
        float(fields["cpu_ms"]),
    )


def _damaged(path: Path, error: Exception) -> EngineError:
    return EngineError(f"{path} cannot be read: {error}", reason="ENGINE_DAMAGED")
