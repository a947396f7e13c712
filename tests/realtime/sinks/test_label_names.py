from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import Frame, SourceInfo
from rtseg.realtime.sinks.label_names import LabelNames
from rtseg.realtime.sinks.labels import LabelSink
from tests.realtime.sinks.parts import TIME_BASE, context, rendered

KIND = "labelTrainIds"


def names(*pictures: str, laps: int | None = 1, several: bool = False) -> list[str]:
    """Return the names of the images of pictures, which come once each lap."""
    paths = tuple(map(Path, pictures))
    count = None if laps is None else len(paths) * laps
    info = SourceInfo("x", "front", 64, 32, frames=count, pictures=paths)
    made = LabelNames(info, KIND, several=several)
    given = []
    for index, path in enumerate(paths * (laps or 1)):
        video = next(rendered(1)).frame.video
        name = made.next(Frame(index, video, index, TIME_BASE, path=path))
        assert made.matches(name)
        given.append(name.removesuffix(f"_{KIND}.png"))
    assert len(set(given)) == len(given)
    return given


def test_pictures_give_their_names() -> None:
    assert names("a/ulm_7.png", "a/b.c.jpg") == ["ulm_7", "b.c"]
    assert names("a/ulm_7.png", several=True) == ["front_ulm_7"]


def test_names_that_clash_are_numbered() -> None:
    assert names("a/x.png", "b/X.jpg", "y.png") == ["front_000000", "front_000001", "y"]
    assert names("a.png", "b.png", laps=2) == ["a", "b", "front_000002", "front_000003"]
    assert names("x.png", "x.jpg", "front_000001.png") == [
        "front_000000", "front_000001_2", "front_000001",
    ]  # fmt: skip


def test_names_that_are_too_long_are_numbered() -> None:
    assert names("ä" * 125 + ".png") == ["front_000000"]


def test_frames_that_are_no_pictures_are_numbered() -> None:
    info = SourceInfo("x", "drive", 64, 32)
    frame = Frame(12, next(rendered(1)).frame.video, 12, TIME_BASE)
    made = LabelNames(info, KIND)
    assert made.next(frame) == "drive_000012_labelTrainIds.png"
    assert made.matches("drive_000099_labelTrainIds.png")
    assert not made.matches("drive_x_labelTrainIds.png")


def test_earlier_labels_of_a_picture_are_refused(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    for name in ("a.png", "b.png"):
        info = {"pictures": (tmp_path / name,), "frames": 1}
        item = next(rendered(1))
        item = replace(item, frame=replace(item.frame, path=tmp_path / name))
        for attempt in range(2):
            sink = LabelSink(ids)
            if attempt:
                with pytest.raises(UsageError) as caught:
                    sink.open(context(**info))
                assert caught.value.reason == "EXISTS"
                continue
            with sink:
                sink.open(context(**info))
                sink.write(item)
    assert sorted(path.name for path in ids.iterdir()) == [
        "a_labelTrainIds.png", "b_labelTrainIds.png",
    ]  # fmt: skip


def test_a_picture_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    pictures = (tmp_path / "a.png", tmp_path / "a_labelTrainIds.png")
    with pytest.raises(UsageError) as caught:
        LabelSink(tmp_path, overwrite=True).open(context(pictures=pictures, frames=2))
    assert caught.value.reason == "SAME_FILE"
