"""Names of sources that are short, unique and hold no password."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.sources.several import named_sources
from tests.media import make_images, make_video


def names(*texts: str) -> list[str]:
    return [source.name for source in named_sources(texts)]


def test_names_of_every_kind(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "drive one.mp4", frames=1)
    pictures = make_images(tmp_path / "cam.7", frames=1)
    assert names(str(clip), str(pictures), "camera3", "testsrc", "screen:1", "-") == [
        "drive_one",
        "cam.7",
        "camera3",
        "testsrc",
        "screen_1",
        "stdin",
    ]


def test_names_that_others_have_too_get_longer_and_then_a_number(tmp_path: Path) -> None:
    for folder in ("front", "rear"):
        (tmp_path / folder).mkdir()
    clips = [
        str(make_video(tmp_path / folder / "drive.mp4", frames=1)) for folder in ("front", "rear")
    ]
    assert names(*clips) == ["front-drive", "rear-drive"]
    assert names(clips[0], clips[0], clips[0]) == [
        "front-drive",
        "front-drive-2",
        "front-drive-3",
    ]
    assert names("rtsp://10.0.0.5/live", "rtsp://10.0.0.6:8554/live", "rtsp://10.0.0.7/door") == [
        "10.0.0.5-live",
        "10.0.0.6_8554-live",
        "door",
    ]
    assert names("testsrc", "testsrc", "lavfi:testsrc=size=64x64") == [
        "testsrc",
        "testsrc-2",
        "testsrc-3",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://admin:s3cret@10.0.0.5/live",
        "rtsp://10.0.0.5/user=admin&password=s3cret&channel=1",
        "rtsp://10.0.0.5/a/key=s3cret/live",
        "rtsp://s3cret@10.0.0.5",
        "http://10.0.0.5/live.mjpg?token=s3cret",
        "http://10.0.0.5/x;auth=s3cret",
    ],
)
def test_no_password_in_a_name_or_repr(url: str) -> None:
    source = named_sources([url])[0]
    assert "s3cret" not in source.name
    assert "s3cret" not in repr(source)
    assert source.text == url


@given(st.lists(st.from_regex(r"rtsp://[a-c]{1,2}(/[a-c2-]{0,3})?", fullmatch=True), max_size=12))
def test_names_are_unique_and_fit_for_files(urls: list[str]) -> None:
    found = [name.lower() for name in names(*urls)]
    assert len(set(found)) == len(urls)
    for name in found:
        assert name
        assert "/" not in name
        assert not name.startswith((".", "-"))


def test_a_missing_file_in_a_list_is_told_before_anything_begins(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("testsrc\nnone.mp4\n")
    with pytest.raises(SourceError, match="no such file"):
        named_sources([str(path)])


def test_names_that_the_user_gave_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text(
        "rtsp://10.0.0.5/live --name door\nrtsp://10.0.0.6/live --name yard\nrtsp://10.0.0.7/door\n"
    )
    assert names(str(path)) == ["door", "yard", "10.0.0.7-door"]
    path.write_text("rtsp://10.0.0.5/live --name door\nrtsp://10.0.0.6/live --name Door\n")
    with pytest.raises(UsageError, match="'door' 2 times"):
        names(str(path))
