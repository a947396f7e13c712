from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rtseg.models.config import (
    Phase,
    SourceConfig,
    TrainConfig,
    config_from_json,
    read_config,
    sides,
)
from rtseg.models.errors import ModelError

MINIMAL = {"network": "espnet-lite", "sources": [{"root": "a", "share": 1}]}


def test_the_shipped_configuration_is_whole() -> None:
    config = read_config("espnet-lite")
    assert config.network == "espnet-lite"
    assert config.validation is not None
    assert config.validation.split == "val"
    assert all(source.split == "train" for source in config.sources)


def test_json_and_back() -> None:
    config = config_from_json(json.dumps(MINIMAL))
    assert config_from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nonsense": 1}, "unknown option 'nonsense'. Allowed: network"),
        ({"sources": []}, "at least one"),
        ({"sources": [{"root": "a", "share": 0}]}, "above 0"),
        ({"sources": [{"root": "a", "share": 1, "kind": "kitti"}]}, "cityscapes, camvid"),
        ({"phases": [{"until": 0.5, "crop": 64, "batch": 2}]}, "end at 1"),
        ({"phases": [{"until": 1.0, "crop": 100, "batch": 2}]}, "multiple of 32"),
        ({"steps": 0}, "above 0"),
        ({"ema": 1.0}, "below 1"),
        ({"augment": {"colour": 1}}, "unknown option 'colour'"),
        ({"sources": ["a"]}, "expected an object"),
        ({"seed": -1}, "seed -1; allowed: 0 to 4294967295"),
        ({"seed": True}, "seed True; allowed: a whole number"),
        ({"size": 64.0}, r"size 64\.0; allowed: a whole number"),
        ({"size": 0}, "size 0; allowed: 1 or more"),
        ({"size": [64, 0]}, r"size \(64, 0\); allowed: 1 or more"),
        ({"size": [64, 64, 3]}, "allowed: a whole number, or two of them: width and height"),
        ({"phases": [{"until": 1.0, "crop": [64, 100], "batch": 2}]}, "multiple of 32"),
        ({"encoder_rate": "x"}, "encoder_rate 'x'; allowed: a number"),
        ({"encoder_rate": float("nan")}, "encoder_rate nan; allowed: a number"),
        ({"head_rate": 0}, "head_rate 0; allowed: above 0"),
        ({"clip": -1}, "clip -1; allowed: above 0"),
        ({"weight_cap": 0}, "weight_cap 0; allowed: 1 .no weights. or more"),
        ({"minutes": "long"}, "minutes 'long'; allowed: a number or null"),
        ({"limit": 0}, "limit 0; allowed: 1 or more, or null"),
        ({"imagenet": "no"}, "imagenet 'no'; allowed: true or false"),
        ({"freeze": "stem"}, "freeze 'stem'; allowed: a list of texts"),
        ({"network": 3}, "network 3; allowed: a text"),
        ({"validation_images": 0}, "validation_images 0; allowed: 1 or more"),
        ({"validation": {}}, "validation {}; allowed: an object"),
        ({"phases": [{"until": "1", "crop": 64, "batch": 2}]}, "until '1'; allowed: a number"),
        ({"phases": [{"until": 1.0, "crop": 64, "batch": 2.5}]}, "allowed: a whole number"),
        (
            {"phases": [{"until": 1, "crop": 64, "batch": 2, "augment": {"mix": 2}}]},
            "mix 2; allowed",
        ),
        ({"phases": [{"until": 1, "crop": 64, "batch": 2, "augment": 3}]}, "an object, received 3"),
        ({"sources": [{"root": 3, "share": 1}]}, "root 3; allowed: a text"),
        ({"loss": {"dice": "much"}}, "dice 'much'; allowed: a number"),
        ({"augment": {"scale": [0, 1]}}, r"scale \(0, 1\); allowed: two numbers above 0"),
        ({"augment": {"scale": [2, 1]}}, "the smaller first"),
        ({"augment": {"scale": [1, 2, 3]}}, r"scale \(1, 2, 3\); allowed: two numbers"),
        ({"augment": {"mosaic_scale": ["a", 1]}}, "mosaic_scale .*; allowed: two numbers"),
        ({"augment": {"aspect": 0.5}}, "aspect 0.5; allowed: 1 or more"),
        ({"augment": {"hue": -3}}, "hue -3; allowed: 0 or more"),
        ({"augment": {"blur": 2}}, "blur 2; allowed: 0 to 1"),
    ],
)
def test_bad_values_say_what_is_allowed(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        config_from_json(json.dumps({**MINIMAL, **change}))
    assert caught.value.reason == "BAD_CONFIG"


def test_a_phase_changes_some_limits_of_the_runs_views() -> None:
    phases = [
        {"until": 0.8, "crop": 64, "batch": 2},
        {"until": 1, "crop": 64, "batch": 2, "augment": {"mix": 0, "scale": [0.9, 1.1]}},
    ]
    augment = {"mix": 0.5, "blur": 0.3}
    config = config_from_json(json.dumps({**MINIMAL, "phases": phases, "augment": augment}))
    first, last = config.phases
    assert first.augment is None
    assert last.augment == replace(config.augment, mix=0, scale=(0.9, 1.1))
    assert last.augment.blur == 0.3
    assert config_from_json(config.to_json()) == config


def test_sizes_may_be_width_and_height() -> None:
    phases = [{"until": 1, "crop": [96, 64], "batch": 2}]
    config = config_from_json(json.dumps({**MINIMAL, "size": [640, 448], "phases": phases}))
    assert sides(config.size) == (448, 640)
    assert sides(config.phases[0].crop) == (64, 96)
    assert sides(512) == (512, 512)
    assert config_from_json(config.to_json()) == config


def test_no_json_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no JSON"):
        config_from_json("{")
    with pytest.raises(ModelError, match=r"shipped ones: .*espnet-lite") as caught:
        read_config(tmp_path / "none.json")
    assert caught.value.reason == "NOT_FOUND"


def test_a_folder_does_not_hide_a_shipped_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probe").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_config("probe").size == 256


def test_phases_and_rate() -> None:
    config = TrainConfig(
        "espnet-lite",
        (SourceConfig("a", 1),),
        phases=(Phase(0.5, 64, 4), Phase(1.0, 96, 2)),
        warmup=10,
    )
    assert config.phase_at(0.0).crop == 64
    assert config.phase_at(0.5).crop == 96
    assert config.phase_at(1.0).crop == 96
    assert config.rate_at(0.0, 0) == pytest.approx(0.1)
    assert config.rate_at(0.5, 500) == pytest.approx(0.5**0.9)
    assert config.rate_at(1.0, 1000) == 0.0


@pytest.mark.parametrize(
    "content", [b"\xff{}", b"[" * 100_000, b'{"augment": 3}', b'{"phases": 7}']
)
def test_damaged_configurations_are_one_line(tmp_path: Path, content: bytes) -> None:
    """Found by benchmarks/fuzz.py: bytes that are no UTF-8 came as a UnicodeDecodeError."""
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_config(path)
    assert caught.value.reason == "BAD_CONFIG"


def test_a_scale_that_is_no_list_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"augment": {"scale": 3}}')
    with pytest.raises(ModelError):
        read_config(path)
