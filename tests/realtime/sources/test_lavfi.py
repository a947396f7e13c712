"""Test pictures and filter graphs."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from rtseg.realtime.errors import UsageError
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
