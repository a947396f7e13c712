"""The calibration cache: thresholds of a network on a set of images, as JSON.

It holds what each method found, so that another method, or other layers left in float, need
no second look at the images. It belongs to one network and one calibration set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtseg.calibration.errors import CalibrationError
from rtseg.engines.wholefile import is_full, write_whole

CACHE_FORMAT = 1


@dataclass(frozen=True)
class CalibrationCache:
    """Thresholds and what they belong to.

    Attributes:
        network_sha256: hash of the float network's file.
        images_sha256: hash of the calibration set.
        images: number of images.
        seed: seed of their choice.
        thresholds: for each method (``percentile:99.99``, ``mse``, …) the magnitude of
            code 127 of each tensor.
    """

    network_sha256: str
    images_sha256: str
    images: int
    seed: int
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)

    def check(self, other: CalibrationCache, method: str, tensors: Collection[str]) -> None:
        """Raise unless this cache serves ``other``'s network and images.

        Raises:
            CalibrationError: ``CACHE_MISMATCH``, naming the first thing that differs.
        """
        for what, mine, wanted in (
            ("network", self.network_sha256, other.network_sha256),
            ("calibration images", self.images_sha256, other.images_sha256),
        ):
            if mine != wanted:
                raise CalibrationError(
                    f"the calibration cache was made for another {what}: "
                    f"{mine[:12]} instead of {wanted[:12]}",
                    reason="CACHE_MISMATCH",
                )
        if method not in self.thresholds:
            raise CalibrationError(
                f"the calibration cache has no thresholds of {method}; it has "
                f"{', '.join(sorted(self.thresholds)) or 'none'}",
                reason="CACHE_MISMATCH",
            )
        missing = sorted(set(tensors) - set(self.thresholds[method]))
        if missing:
            raise CalibrationError(
                f"the calibration cache has no threshold for {len(missing)} tensors, such as "
                f"{missing[0]!r}",
                reason="CACHE_MISMATCH",
            )

    def save(self, path: Path) -> None:
        """Write the cache; a reader sees the old file or the new one, never half of it.

        Raises:
            CalibrationError: ``NOT_FOUND`` or ``NO_SPACE`` where it cannot be written.
        """
        content = {
            "format": CACHE_FORMAT,
            "network_sha256": self.network_sha256,
            "images_sha256": self.images_sha256,
            "images": self.images,
            "seed": self.seed,
            "thresholds": self.thresholds,
        }
        write_atomically(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> CalibrationCache:
        """Read what :meth:`save` wrote.

        Raises:
            CalibrationError: ``NOT_FOUND``, ``CACHE_DAMAGED``, or ``CACHE_MISMATCH`` for
                another format.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
            version = content["format"]
            if version != CACHE_FORMAT:
                raise CalibrationError(
                    f"the calibration cache {path} has format {version}; "
                    f"this version reads {CACHE_FORMAT}",
                    reason="CACHE_MISMATCH",
                )
            thresholds = {
                str(method): {str(name): _positive(value) for name, value in tensors.items()}
                for method, tensors in content["thresholds"].items()
            }
            return cls(
                network_sha256=str(content["network_sha256"]),
                images_sha256=str(content["images_sha256"]),
                images=int(content["images"]),
                seed=int(content["seed"]),
                thresholds=thresholds,
            )
        except OSError as error:
            raise CalibrationError(
                f"cannot read the calibration cache {path}: {error.strerror or error}",
                reason="NOT_FOUND",
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(
                f"the calibration cache {path} is damaged: {error}", reason="CACHE_DAMAGED"
            ) from error


def _positive(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"a threshold is a positive number, not {value!r}")
    return number


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under another name beside its place, then rename it.

    Raises:
        CalibrationError: ``NOT_FOUND`` where the folder is missing or closed to us,
            ``NO_SPACE`` where the disk is full.
    """
    try:
        write_whole(path, content, sync=True)
    except OSError as error:
        raise CalibrationError(
            f"cannot write {path}: {error.strerror or error}",
            reason="NO_SPACE" if is_full(error) else "NOT_FOUND",
        ) from error
