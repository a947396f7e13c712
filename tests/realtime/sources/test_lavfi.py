"""Test pictures and filter graphs."""

from __future__ import annotations

import itertools
import time
from fractions import Fraction

import pytest

from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import now_ns
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source


def test_testsrc_has_no_end() -> None:
    with open_source("testsrc") as source:
        info = source.info
        assert (info.width, info.height, info.fps) == (640, 360, Fraction(30))
        assert (info.frames, info.duration_s, info.live) == (None, None, False)
        frames = list(itertools.islice(source.frames(), 100))
    assert frames[-1].pts_s == pytest.approx(99 / 30)


def test_testsrc_ends_where_it_is_told() -> None:
    with open_source("testsrc", SourceOptions(duration_s=1.0)) as source:
        assert source.info.duration_s == 1.0
        assert source.info.frames == 30
        assert sum(1 for _ in source.frames()) == 30


def test_a_graph_of_ones_own() -> None:
    with open_source("lavfi:color=red:size=64x32:rate=5:duration=2,format=rgb24") as source:
        info = source.info
        assert (info.width, info.height, info.fps, info.stem) == (64, 32, Fraction(5), "color")
        frames = list(source.frames())
    assert len(frames) == 10
    red = frames[0].video.to_ndarray(format="rgb24")[0, 0]
    assert red[0] > 240
    assert red[1] < 10


def test_the_realtime_filter_makes_it_live() -> None:
    with open_source("lavfi:testsrc=duration=0.3,realtime") as source:
        assert source.info.live
        assert list(source.frames())


@pytest.mark.parametrize(
    "graph", ["nosuchfilter", "testsrc=size=-1x3", "testsrc,,", "[", "anullsrc"]
)
def test_what_is_no_graph(graph: str) -> None:
    with pytest.raises(Exception, match="lavfi:") as caught:
        open_source(f"lavfi:{graph}").open()
    assert "\n" not in str(caught.value)
    if graph != "anullsrc":
        assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(("rate", "dropped"), [(20, True), (2, False)])
def test_a_live_first_frame_goes_once_newer_ones_must_have_come(rate: int, dropped: bool) -> None:
    """It was decoded to learn the size and waits while the network loads; here for 0.3 s."""
    graph = f"lavfi:testsrc2=size=64x48:rate={rate}:duration=3,realtime"
    with open_source(graph) as source:
        assert source.info.live
        time.sleep(0.3)
        frame = next(iter(source.frames()))
        age_s = (now_ns() - frame.captured_ns) / 1e9
    assert frame.index == 0
    assert (age_s < 0.25) is dropped
