"""Lists of sources: text files, one source a line, with options of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.cli import main
from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.sources.lists import TypedSource, read_list
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.several import MOST_SOURCES, named_sources
from tests.media import make_video


def listed(folder: Path, *lines: str) -> list[TypedSource]:
    (folder / "x.txt").write_text("\n".join(lines), encoding="utf-8")
    return read_list(str(folder / "x.txt"))


def test_a_list_has_one_source_a_line(tmp_path: Path) -> None:
    text = "\ufeff# the yard\n\n  camera0  \nrtsp://a:b@host/door # 1\n#camera1\n"
    (tmp_path / "yard.streams").write_text(text, encoding="utf-8")
    sources = named_sources([str(tmp_path / "yard.streams"), "testsrc"])
    assert [source.text for source in sources] == ["camera0", "rtsp://a:b@host/door # 1", "testsrc"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "names no source"),
        (b"# camera0\n\n", "names no source"),
        (b"\xff\xfe\x00c", "UTF-8"),
        (b"testsrc\n" + b"#" * 1_000_000, "no list"),
        (b"other.txt\n", "within a list"),
        (b"testsrc\n" * (MOST_SOURCES + 1), "at most 64"),
        (b"-\n-\n", "once"),
    ],
)
def test_a_list_that_makes_no_sense(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=said):
        named_sources([str(path)])


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such list") as caught:
        named_sources([str(tmp_path / "none.txt")])
    assert caught.value.reason == "NOT_FOUND"
    (tmp_path / "dir.txt").mkdir()
    with pytest.raises(SourceError, match="cannot be read"):
        named_sources([str(tmp_path / "dir.txt")])


def test_options_of_one_source(tmp_path: Path) -> None:
    front, rear, plain = listed(
        tmp_path,
        "rtsp://a:b@front/live  --name=front --rotate 180 --rtsp-transport udp",
        "/dev/video1 --width 640 --height 480 --fps 15 --input-format yuyv --flip horizontal",
        "drive one.mp4",
    )
    assert front == TypedSource(
        "rtsp://a:b@front/live", "front", {"rotate": 180, "rtsp_transport": "udp"}
    )
    assert rear.text == "/dev/video1"
    assert rear.own == {
        "width": 640,
        "height": 480,
        "fps": 15,
        "input_format": "yuyv",
        "flip": "horizontal",
    }
    assert plain == TypedSource("drive one.mp4")


def test_a_file_whose_name_looks_like_options(tmp_path: Path) -> None:
    path = make_video(tmp_path / "night --name x.mp4", 1)
    assert listed(tmp_path, str(path)) == [TypedSource(str(path))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("testsrc --rotat 90", r"line 2: unknown option --rotat; did you mean --rotate\?"),
        ("testsrc --rotate 45", "line 2: argument --rotate: invalid choice: .*Allowed: --name, --"),
        ("testsrc --crf 3", "unknown option --crf.*Allowed: --name, --width"),
        ("testsrc --name a/b", "--name takes letters.*'a/b'"),
        ("testsrc --width 640", "--width and --height go together"),
        ("testsrc --name 'a", "line 2: No closing quotation"),
        ("testsrc --name 'a rtsp://b:c@host", r"rtsp://\*\*\*@host$"),
        ("testsrc --hwaccel ''", "--hwaccel must be auto"),
        ("testsrc --flip vertical more", "unexpected argument 'more'"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        listed(tmp_path, "# cameras", line)


@given(line=st.text(max_size=60))
def test_any_line_is_a_source_or_one_error(
    line: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, said = tmp_path_factory.getbasetemp(), ""
    try:
        found = listed(folder, "testsrc", f"testsrc --{line}")
    except UsageError as error:
        found, said = [TypedSource("testsrc")], str(error)
    assert found[0] == TypedSource("testsrc")
    assert not said or said.startswith(str(folder))


def test_a_run_over_a_list_heeds_them(tmp_path: Path) -> None:
    """One camera on its side, the others as they are."""
    for name in ("front", "rear"):
        make_video(tmp_path / f"{name}.mp4", 2, (96, 64))
    lines = [f"{tmp_path}/front.mp4 --name left --rotate 90", f"{tmp_path}/rear.mp4"]
    (tmp_path / "cams.txt").write_text("\n".join(lines))
    (tmp_path / "out").mkdir()
    command = ["--source", str(tmp_path / "cams.txt"), "--out", str(tmp_path / "out"), "-q"]
    assert main([*command, "--profile", str(tmp_path / "p.json")]) == 0
    sizes = {
        name: (info.width, info.height)
        for name in ("left", "rear")
        for info in [_info(tmp_path / "out" / f"{name}_seg.mp4")]
    }
    assert sizes == {"left": (64, 96), "rear": (96, 64)}
    (tmp_path / "one.txt").write_text(lines[0])
    one = ["--source", str(tmp_path / "one.txt"), "--out", str(tmp_path / "one.mp4"), "-q"]
    assert main(one) == 0
    assert (_info(tmp_path / "one.mp4").width, _info(tmp_path / "one.mp4").height) == (64, 96)


def test_clips_of_a_batch_heed_them(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", 2, (96, 64))
    (tmp_path / "l.txt").write_text(f"{tmp_path}/a.mp4 --rotate 90 --name turned")
    out = str(tmp_path / "{stem}_seg.mp4")
    assert main(["--batch", str(tmp_path / "l.txt"), out, "-q"]) == 0
    assert (_info(tmp_path / "turned_seg.mp4").width) == 64


def _info(path: Path) -> SourceInfo:
    with open_source(str(path)) as source:
        return source.info
