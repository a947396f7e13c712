from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtseg.realtime.cli import main
from rtseg.realtime.errors import UsageError
from rtseg.realtime.fileurl import path_of_url, plain_path
from rtseg.realtime.sinks.clashes import refuse_clashes
from rtseg.realtime.sinks.resolve import parse_sink
from rtseg.realtime.sources.resolve import parse_source


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:///a/b.mp4", "/a/b.mp4"),
        ("FILE:///a%20b%C3%A9.mp4", "/a bé.mp4"),
        ("file://localhost/a.mp4", "/a.mp4"),
        ("file://localhost.mp4", "localhost.mp4"),
        ("file:/a.mp4", "/a.mp4"),
        ("file:///a_%03d.mp4", "/a_%03d.mp4"),
        ("file:///%Y%m%d-%H%M%S.mp4", "/%Y%m%d-%H%M%S.mp4"),
        ("file:///100%25.mp4", "/100%.mp4"),
        ("file:///a%FF.mp4", os.fsdecode(b"/a\xff.mp4")),
        ("a%20b.mp4", None),
        ("files/a.mp4", None),
    ],
)
def test_addresses(text: str, path: str | None) -> None:
    assert path_of_url(text) == path
    assert plain_path(text) == (path or text)


def test_sources_and_outputs_are_understood_alike(tmp_path: Path) -> None:
    place = tmp_path / "a b.mp4"
    address = f"file://{tmp_path}/a%20b.mp4"
    assert parse_sink(address).text == str(place)
    with pytest.raises(UsageError, match="two outputs"):
        refuse_clashes([address, str(place)])
    place.touch()
    assert parse_source(address).target == str(place)
    with pytest.raises(UsageError, match="the input itself"):
        refuse_clashes([address], [place])


def test_the_file_has_the_name_that_is_meant(tmp_path: Path) -> None:
    out = f"file://{tmp_path}/a%20b.mp4"
    assert main(["testsrc", out, "--max-frames", "2", "-q"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a b.mp4"]
    (tmp_path / "a b.mp4").unlink()
    assert main(["testsrc", out, "--max-frames", "2", "-q", "--segment", "1s"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a b_000.mp4"]
