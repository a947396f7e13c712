"""No output writes over another one or over what is read."""

from __future__ import annotations

import argparse

import pytest

from rtseg.realtime.asked import refuse_output_clashes
from rtseg.realtime.errors import UsageError
from rtseg.realtime.sinks.clashes import refuse_clashes
from rtseg.realtime.sources.several import named_sources


def test_clashes(tmp_path):
    (tmp_path / "in.mp4").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    a, b = str(tmp_path / "a.mp4"), str(tmp_path / "link" / "." / "a.mp4")
    with pytest.raises(UsageError, match="two outputs"):
        refuse_clashes([a, b])
    with pytest.raises(UsageError, match="two outputs"):
        refuse_clashes(["window", "window"])
    with pytest.raises(UsageError, match="two outputs") as caught:
        refuse_clashes(["rtsp://u:secret@host/live", "rtsp://u:secret@host/live"])
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="the input itself"):
        refuse_clashes([str(tmp_path / "link" / "in.mp4")], [tmp_path / "in.mp4"])
    refuse_clashes([a, "null", "null", "window", str(tmp_path)], [tmp_path / "in.mp4"])


def test_one_file_by_two_names(tmp_path):
    plain = str(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="two outputs"):
        refuse_clashes([plain, f"file://{plain}"])
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UsageError, match="the input itself"):
        refuse_clashes([f"file://{plain}"], [tmp_path / "a.mp4"])


@pytest.mark.parametrize("source", ["", "*.png", "frame_%06d.png", "frame_000001.png"])
def test_pictures_that_are_read_are_not_written_over(tmp_path, source):
    for number in range(3):
        (tmp_path / f"frame_{number:06d}.png").touch()
    asked = argparse.Namespace(record=None, labels_out=None, jsonl=None, profile=None, trace=None)
    sources = named_sources([str(tmp_path / source)])
    with pytest.raises(UsageError, match="which is read") as caught:
        refuse_output_clashes(asked, [str(tmp_path / "frame_%06d.png")], sources)
    assert caught.value.reason == "SAME_FILE"
    refuse_output_clashes(asked, [str(tmp_path / "seg_%06d.png")], sources)
    refuse_output_clashes(asked, [str(tmp_path / "frame_%06d.jpg")], sources)
    (tmp_path / "other").mkdir()
    refuse_output_clashes(asked, [str(tmp_path / "other" / "frame_%06d.png")], sources)


def test_what_a_folder_will_hold(tmp_path):
    """Written there are x_seg.mp4 and, of two sources, one for each."""
    (tmp_path / "x.mp4").touch()
    (tmp_path / "x_seg.mp4").touch()
    asked = argparse.Namespace(record=None, labels_out=None, jsonl=None, profile=None, trace=None)
    two = named_sources([str(tmp_path / "x.mp4"), str(tmp_path / "x_seg.mp4")])
    with pytest.raises(UsageError, match=r"x_seg\.mp4 is the input itself"):
        refuse_output_clashes(asked, [str(tmp_path)], two)
    with pytest.raises(UsageError, match="two outputs"):
        refuse_output_clashes(asked, [str(tmp_path), str(tmp_path / "x_seg.mp4")], two[:1])
    refuse_output_clashes(asked, [str(tmp_path)], two[:1])
