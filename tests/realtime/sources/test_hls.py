"""HLS: live streams that come segment by segment."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from rtseg.realtime.errors import SourceError
from rtseg.realtime.sources.backoff import Backoff
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.pace import LONGEST_S, Pace
from rtseg.realtime.sources.reconnect import ReconnectingSource
from rtseg.realtime.sources.resolve import open_source, parse_source, source_of
from tests.media import frame_number, make_video
from tests.servers.running import http_server

END = "#EXT-X-ENDLIST\n"


def make_stream(folder: Path) -> Path:
    """Write three segments of two seconds, of 6 pictures a second; return the playlist."""
    return make_video(folder / "live.m3u8", 36, fps=6, gop=12, format="hls")


def go_live(playlist: Path) -> None:
    text = playlist.read_text()
    assert END in text
    playlist.write_text(text.replace(END, ""))


def test_a_live_stream_has_its_own_pace_from_its_newest_segment_on(tmp_path: Path) -> None:
    go_live(make_stream(tmp_path))
    with http_server(tmp_path) as port:
        options = SourceOptions(timeout_s=8, reconnect=0)
        with open_source(f"http://127.0.0.1:{port}/live.m3u8", options) as source:
            assert source.info.live
            frames = list(itertools.islice(source.frames(), 9))
    assert [frame_number(frame.video) for frame in frames] == list(range(24, 33))
    for before, after in itertools.pairwise(frames):
        assert after.pts_s - before.pts_s == pytest.approx(1 / 6, abs=0.001)
        assert (after.captured_ns - before.captured_ns) / 1e9 > 0.1


def test_a_stream_that_has_ended_is_not_shown_again(tmp_path: Path) -> None:
    """What is left of it is a recording, whose end would come as news with each try."""
    playlist = make_stream(tmp_path)
    whole = playlist.read_text()
    go_live(playlist)
    with http_server(tmp_path) as port:
        spec = parse_source(f"http://127.0.0.1:{port}/live.m3u8")
        source = ReconnectingSource(
            lambda: source_of(spec, SourceOptions(timeout_s=8)),
            attempts=2,
            backoff=Backoff(0.01, 0.02),
        )
        seen: list[int] = []
        with source:
            playlist.write_text(whole)
            with pytest.raises(SourceError) as caught:
                seen.extend(frame.index for frame in source.frames())
    assert caught.value.reason == "ENDED"
    assert seen == list(range(12))


def test_late_frames_move_what_follows() -> None:
    pace = Pace()
    assert pace.wait_s(0.0, 100.0) == 0
    assert pace.wait_s(1.0, 100.5) == 0.5
    assert pace.wait_s(2.0, 104.0) == 0
    assert pace.wait_s(3.0, 104.0) == 1
    assert pace.wait_s(3.5 + LONGEST_S, 104.0) == 0
