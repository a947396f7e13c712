"""The reference networks of the shared data, with the notes that say how to feed them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.data import shared_data

MEHTA = "espnet-mehta-q8-1024x512.onnx"
ESPNETV2 = "espnetv2-s2.0-1024x512.onnx"

NOTES: dict[str, dict[str, Any]] = {
    MEHTA: {
        "mean": [value / 255 for value in (72.3923, 82.9089, 73.1584)],
        "std": [45.3192, 46.1529, 44.9148],
        "scale": 255,
        "bgr": True,
        "classes": "cityscapes",
        "use_channels": 19,
    },
    ESPNETV2: {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "bgr": False,
        "classes": "cityscapes",
        "use_channels": 19,
    },
}


def reference_network(name: str, folder: Path) -> Path:
    """Link a reference network into ``folder``, its note beside it; skip where it is absent."""
    path = folder / name
    path.symlink_to(shared_data("weights", name))
    (folder / f"{name}.json").write_text(json.dumps(NOTES[name]))
    return path
