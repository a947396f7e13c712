"""How new networks take the place of those that shipped."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from rtseg.engines.quality import FILE_NAME, QUALITIES
from rtseg.engines.shipped import shipped_models
from rtseg.engines.wholefile import partial_name
from rtseg.tools.ship_networks import SIZES, Made, ship

OPTIONS = Namespace(network="espnet-lite")
OLD = ["espnet-lite-512x512-int8.onnx", "espnet-lite-640x480-int8.onnx"]
OTHERS = ["espnet-lite-wide-640x480-int8.onnx", "fast-scnn-512x512-fp32.onnx", "notes.txt"]
NEW = [
    "espnet-lite-448x352-int8.onnx",
    "espnet-lite-640x480-fp32.onnx",
    "espnet-lite-640x480-int8.onnx",
    "espnet-lite-768x576-int8.onnx",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of networks that ship, with another's figures in the table."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in (*OLD, *OTHERS):
        (folder / name).write_text(f"old {name}")
    (folder / FILE_NAME).write_text(json.dumps({"fast-scnn": {"levels": {}}}))
    return folder


@pytest.fixture
def made(tmp_path: Path) -> list[Made]:
    """New files of every quality."""
    place = tmp_path / "made"
    place.mkdir()
    found = []
    for quality in QUALITIES:
        stem = "espnet-lite-{}x{}".format(*SIZES[quality])
        files = place / f"{stem}-fp32.onnx", place / f"{stem}-int8.onnx"
        for file in files:
            file.write_text(f"new {file.name}")
        found.append(Made(quality, *files, {"size": list(SIZES[quality])}))
    return found


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_new_files_take_the_place_of_those_of_the_same_network(
    folder: Path, made: list[Made]
) -> None:
    ship(made, OPTIONS, folder)
    found = contents(folder)
    table = json.loads(found.pop(FILE_NAME))
    assert found == {
        **{name: f"old {name}" for name in OTHERS},
        **{name: f"new {name}" for name in NEW},
    }
    assert {m.path.name for m in shipped_models(folder) if m.name == "espnet-lite"} == set(NEW)
    assert set(table) == {"espnet-lite", "fast-scnn"}
    assert table["espnet-lite"]["levels"] == {one.quality: one.point for one in made}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("last", [FILE_NAME, NEW[1], NEW[3]])
def test_a_full_disk_leaves_what_shipped(folder: Path, made: list[Made], last: str) -> None:
    before = contents(folder)
    partial_name(folder / last).symlink_to("/dev/full")
    with pytest.raises(SystemExit, match="No space left"):
        ship(made, OPTIONS, folder)
    assert contents(folder) == before


def test_a_folder_that_is_not_there_yet_is_made(tmp_path: Path, made: list[Made]) -> None:
    ship(made, OPTIONS, tmp_path / "new" / "folder")
    assert set(contents(tmp_path / "new" / "folder")) == {*NEW, FILE_NAME}
