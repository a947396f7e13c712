"""The table of qualities, and the files it leads to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rtseg.engines.errors import EngineError
from rtseg.engines.quality import (
    DEFAULT_QUALITY,
    FILE_NAME,
    QUALITIES,
    quality_points,
    size_of_quality,
)
from rtseg.engines.registry import open_engine
from rtseg.engines.shipped import choose_model, shipped_models


def table(folder: Path, **levels: tuple[int, int]) -> Path:
    entry = {
        name: {"size": list(size), "miou": 50.0, "pixel_accuracy": 88.0, "cpu_ms": 20.0}
        for name, size in levels.items()
    }
    (folder / FILE_NAME).write_text(json.dumps({"net": {"levels": entry}}))
    return folder


def test_levels_come_fastest_first(tmp_path: Path) -> None:
    points = quality_points("net", table(tmp_path, best=(640, 640), fast=(256, 128)))
    assert [(p.quality, p.width, p.height) for p in points] == [
        ("fast", 256, 128),
        ("best", 640, 640),
    ]
    assert str(points[0]) == "fast (256x128, 50.0 mIoU)"


def test_a_network_without_a_table_has_no_levels(tmp_path: Path) -> None:
    assert quality_points("net", tmp_path) == ()
    assert quality_points("other", table(tmp_path, fast=(64, 64))) == ()


def test_a_level_that_is_not_there_lists_those_there_are(tmp_path: Path) -> None:
    points = quality_points("net", table(tmp_path, fast=(64, 64), balanced=(96, 96)))
    assert size_of_quality(points, "net", "balanced") == (96, 96)
    with pytest.raises(EngineError, match=r"'best'\. Available: fast, balanced") as caught:
        size_of_quality(points, "net", "best")
    assert caught.value.reason == "NOT_FOUND"


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        '{"net": {}}',
        '{"net": {"levels": {"fast": {"size": [1]}}}}',
        '{"net": {"levels": {"fast": {"size": [32, 32]}}}}',
        '{"net": {"levels": {"fast": {"size": [32, 32], "miou": "x"}}}}',
    ],
)
def test_a_damaged_table_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(EngineError) as caught:
        quality_points("net", tmp_path)
    assert caught.value.reason == "ENGINE_DAMAGED"


def test_every_shipped_level_has_its_files() -> None:
    points = quality_points("espnet-lite")
    assert [point.quality for point in points] == list(QUALITIES)
    models = shipped_models()
    for point in points:
        found = choose_model(models, "espnet-lite", "int8", (point.width, point.height))
        assert found.path.exists()
    sizes = [point.width * point.height for point in points]
    assert sizes == sorted(sizes), "faster means smaller"
    assert [point.miou for point in points] == sorted(point.miou for point in points)
    together = sum(model.path.stat().st_size for model in models)
    assert together < 25 * 2**20, "what the wheel may weigh"


@pytest.mark.parametrize("quality", [None, *QUALITIES])
def test_an_engine_is_opened_in_the_size_of_its_quality(quality: str | None) -> None:
    points = quality_points("espnet-lite")
    with open_engine(quality=quality) as engine:
        size = (engine.spec.width, engine.spec.height)
    assert size == size_of_quality(points, "espnet-lite", quality or DEFAULT_QUALITY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": "superb"}, "Allowed: fast, balanced, best"),
        ({"quality": "fast", "path": "x.onnx"}, "the engine file x.onnx"),
        ({"quality": "fast", "size": (512, 512)}, "a size"),
    ],
)
def test_a_quality_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        open_engine(**arguments)
    assert caught.value.reason == "BAD_OPTION"
