"""Videos say at which time of day they begin."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import av
import pytest

from rtseg.realtime.cli import main
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.segments import SegmentedVideoSink, SegmentOptions
from rtseg.realtime.sinks.video import VideoFileSink
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from tests.media import make_video
from tests.realtime.sinks.parts import SUFFIXES, TICKS, context, rendered, write_frames

MADE = datetime(2026, 11, 22, 14, 5, 9, tzinfo=timezone.utc)


def made_at(path: Path) -> datetime | None:
    """Return what a file says, in whole seconds: mp4 and mov keep no more."""
    with av.open(str(path)) as file:
        text = file.metadata.get("creation_time")
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))


def dated(path: Path, text: str = "2026-11-22T14:05:09Z", frames: int = 60) -> Path:
    plain = make_video(path.with_name(f"plain_{path.name}"), frames)
    with av.open(str(plain)) as read, av.open(str(path), "w") as out:
        out.metadata["creation_time"] = text
        video = out.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_hands_its_time_on(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    with VideoFileSink(out) as sink:
        sink.open(context(created_at=MADE))
        write_frames(sink, 3)
    assert made_at(out) == MADE


def test_nothing_is_made_up(tmp_path: Path) -> None:
    for name, info, options in (
        ("a.mp4", {}, None),
        ("b.mp4", {"created_at": MADE}, EncodeOptions(creation_time=False)),
        ("c.mp4", {"live": True}, EncodeOptions(creation_time=False)),
    ):
        with VideoFileSink(tmp_path / name, options) as sink:
            sink.open(context(**info))
            write_frames(sink, 3)
        assert made_at(tmp_path / name) is None


def test_a_live_recording_begins_when_its_first_frame_came(tmp_path: Path) -> None:
    item = next(rendered(1))
    for name, pts in (("a.mkv", 0), ("b.mkv", 25 * TICKS)):
        with VideoFileSink(tmp_path / name) as sink:
            sink.open(context(live=True))
            sink.write(replace(item, frame=replace(item.frame, pts=pts)))
        begun = item.frame.captured_at - timedelta(seconds=pts / TICKS / 25)
        assert made_at(tmp_path / name) == begun


def test_every_segment_has_its_own_time(tmp_path: Path) -> None:
    with SegmentedVideoSink(tmp_path / "s.mp4", SegmentOptions(length_s=Fraction(1))) as sink:
        sink.open(context(created_at=MADE))
        write_frames(sink, 60)
    times = [made_at(path) for path in sorted(tmp_path.iterdir())]
    assert times == [MADE + timedelta(seconds=number) for number in range(3)]


@pytest.mark.parametrize(
    ("text", "start_s", "made"),
    [
        ("2026-11-22T14:05:09Z", 0, MADE),
        ("2026-11-22T14:05:09Z", 1.0, MADE + timedelta(seconds=1)),
        ("2026-11-22T15:05:09.000000+01:00", 0, MADE),
        ("no time", 0, None),
    ],
)
def test_what_a_file_says(tmp_path: Path, text: str, start_s: float, made: datetime) -> None:
    clip = dated(tmp_path / "in.mkv", text)
    with open_source(clip, SourceOptions(start_s=start_s)) as source:
        assert source.info.created_at == made


def test_the_whole_way_and_not_where_people_are_covered(tmp_path: Path) -> None:
    clip = dated(tmp_path / "in.mp4")
    out, covered = tmp_path / "out.mp4", tmp_path / "covered.mp4"
    limit = ["--max-frames", "5", "-q"]
    assert main([str(clip), str(out), "--start", "1", *limit]) == 0
    assert made_at(out) == MADE + timedelta(seconds=1)
    assert main([str(clip), str(covered), "--redact", "person", *limit]) == 0
    assert made_at(covered) is None
