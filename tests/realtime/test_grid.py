"""All streams in one picture: places, marks, time, and what a failure does to whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.errors import SinkError
from rtseg.realtime.grid import FileGrid, Grid, LiveGrid
from rtseg.realtime.mosaic import CELL_PX, TAGS, Cell, Tile, compose, fit, layout
from rtseg.realtime.pipeline import SharedLoop
from rtseg.realtime.stream import Stream
from rtseg.realtime.yuv import planes_420
from tests.realtime.parts import (
    BrightnessEngine,
    GraySource,
    ListSink,
    PlainPainter,
    gray_video_frame,
)

SPEC = BrightnessEngine().spec


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not left


class GrayPainter(PlainPainter):
    """Pictures of the frame's own gray."""

    def render(self, frame: object, labels: object) -> av.VideoFrame:  # type: ignore[override]
        return frame.video.reformat(format="yuv420p")  # type: ignore[attr-defined,no-any-return]


def cell_gray(picture: av.VideoFrame, cell: Cell) -> float:
    luma = planes_420(picture)[0]
    x, y = cell.x + cell.width // 2, cell.y + cell.height // 2
    return float(luma[y - 4 : y + 4, x - 4 : x + 4].mean())


@given(st.integers(1, 64))
def test_cells_are_even_inside_and_apart(count: int) -> None:
    (width, height), cells = layout(count)
    assert len(cells) == count
    assert width <= 1920
    covered = np.zeros((height, width), np.uint8)
    for cell in cells:
        assert not any(value % 2 for value in (cell.x, cell.y, cell.width, cell.height))
        covered[cell.y : cell.y + cell.height, cell.x : cell.x + cell.width] += 1
        assert cell.width / cell.height == pytest.approx(16 / 9, rel=0.02)
    assert covered.max() == 1
    assert covered.sum() == sum(cell.width * cell.height for cell in cells)


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.fractions(Fraction(1, 4), Fraction(4)),
)
def test_a_picture_fits_into_its_cell_and_keeps_its_shape(
    width: int, height: int, ratio: Fraction
) -> None:
    cell = Cell(0, 0, *CELL_PX)
    x, y, wide, high = fit((width, height), ratio, cell)
    assert not any(value % 2 for value in (x, y, wide, high))
    assert x + wide <= cell.width
    assert y + high <= cell.height
    shape = width * ratio / height
    if 0.05 < shape < 20:
        assert wide / high == pytest.approx(float(shape), rel=0.15, abs=2 / high)


def test_a_tile_is_made_anew_only_when_something_changes() -> None:
    tile = Tile(Cell(0, 0, 64, 36), CITYSCAPES)
    picture = gray_video_frame(200).reformat(format="yuv420p")
    first = tile.draw(picture, Fraction(1), ["a"], dim=False)
    assert tile.draw(picture, Fraction(1), ["a"], dim=False) is first
    dimmed = tile.draw(picture, Fraction(1), ["a"], dim=True)
    assert dimmed is not first
    assert float(dimmed[0].max()) < float(first[0].max())
    other = gray_video_frame(90).reformat(format="yuv420p")
    assert tile.draw(other, Fraction(1), ["a"], dim=False) is not first


def test_colours_of_another_matrix_are_converted() -> None:
    rgb = np.zeros((36, 64, 3), np.uint8)
    rgb[:] = (200, 40, 40)
    video = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    small = video.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="JPEG")
    small.colorspace, small.color_range = 5, 2
    tile = Tile(Cell(0, 0, 64, 36), CITYSCAPES)
    picture = compose((64, 36), [(tile.cell, tile.draw(small, Fraction(1), [], dim=False))])
    back = picture.to_ndarray(format="rgb24", src_colorspace="ITU709")
    assert np.abs(back[18, 32].astype(int) - (200, 40, 40)).max() <= 6
    assert picture.colorspace == TAGS.matrix


def run(
    grid: Grid, sources: list[GraySource], *others: ListSink, infer_s: float = 0.0
) -> list[Stream]:
    streams = [
        Stream(source, GrayPainter(), [tile, *others], name=tile.title)
        for source, tile in zip(sources, grid.tiles, strict=True)
    ]
    loop = SharedLoop(streams, BrightnessEngine(infer_s=infer_s))

    def while_running() -> None:
        for number, stream in enumerate(streams):
            if not stream.alive:
                reason = getattr(stream.failure, "reason", None)
                grid.ended(number, f"failed: {reason}" if reason else "ended")

    grid.open()
    try:
        loop.run(while_running)
        while_running()
    finally:
        grid.close()
    return streams


def test_files_are_shown_at_the_same_moment_of_their_own_time() -> None:
    """30 and 10 frames/s: each third picture has a new one of the slow file."""
    sink = ListSink(wants_picture=True)
    grid = FileGrid(["fast", "slow"], [sink], SPEC)
    streams = run(grid, [GraySource(60, fps=30), GraySource(20, fps=10)])
    assert [stream.failure for stream in streams] == [None, None]
    assert [item.frame.pts_s for item in sink.items] == pytest.approx([n / 30 for n in range(60)])
    cells = layout(2)[1]
    for number, item in enumerate(sink.items):
        assert item.picture is not None
        assert cell_gray(item.picture, cells[0]) == pytest.approx(16 + number * 219 / 255, abs=2)
        slow = 16 + (number // 3) * 219 / 255
        assert cell_gray(item.picture, cells[1]) == pytest.approx(slow, abs=2)
    assert sink.context is not None
    assert sink.context.source.fps == 30
    assert sink.closed == 1


def test_a_file_that_ends_early_stays_and_says_so() -> None:
    sink = ListSink(wants_picture=True)
    grid = FileGrid(["a", "b"], [sink], SPEC)
    run(grid, [GraySource(40), GraySource(10)])
    assert len(sink.items) == 40
    cells = layout(2)[1]
    last = sink.items[-1].picture
    assert last is not None
    frozen = 16 + 9 * 219 / 255
    assert cell_gray(last, cells[1]) == pytest.approx(16 + (frozen - 16) / 2, abs=3)  # dimmed


def test_a_file_that_does_not_open_does_not_hold_the_others() -> None:
    sink = ListSink(wants_picture=True)
    grid = FileGrid(["a", "b"], [sink], SPEC)
    streams = run(grid, [GraySource(20), GraySource(5, fail_open=True)])
    assert len(sink.items) == 20
    assert streams[1].failure is not None
    assert grid.failure is None
    assert grid.tiles[1].over == "failed: CONNECTION_FAILED"


def test_live_streams_count_a_frame_once_it_was_shown() -> None:
    sink = ListSink(wants_picture=True)
    grid = LiveGrid(["a", "b"], [sink], SPEC)
    streams = run(grid, [GraySource(30, live=True), GraySource(10, fps=10, live=True)])
    times = [item.frame.pts_s for item in sink.items]
    assert times == sorted(times)
    assert len(times) >= 10
    for stream in streams:
        profiler = stream.profiler
        assert profiler.frames_out >= 5
        assert profiler.frames_out + sum(profiler.dropped.values()) == profiler.frames_in
    assert streams[0]._pace is False


def test_a_stream_that_stalls_is_marked_and_the_other_goes_on() -> None:
    sink = ListSink(wants_picture=True)
    grid = LiveGrid(["a", "b"], [sink], SPEC)
    sources = [GraySource(90, live=True), GraySource(60, live=True, hang_at=10)]
    streams = [
        Stream(source, GrayPainter(), [tile], name=tile.title)
        for source, tile in zip(sources, grid.tiles, strict=True)
    ]
    loop = SharedLoop(streams, BrightnessEngine())
    grid.open()
    loop.run(lambda: None if streams[0].alive else loop.stop())
    grid.close()
    last = sink.items[-1].picture
    early = sink.items[len(sink.items) // 8].picture
    assert last is not None
    assert early is not None
    cell = layout(2)[1][1]
    luma, before = planes_420(last)[0], planes_420(early)[0]
    caption = slice(cell.y + cell.height * 3 // 4, cell.y + cell.height)
    columns = slice(cell.x, cell.x + cell.width)
    assert (luma[caption, columns] > 180).sum() > 2 * (before[caption, columns] > 180).sum()


def test_files_beside_a_live_stream_are_played_at_their_own_pace() -> None:
    grid = LiveGrid(["file", "live"], [ListSink(wants_picture=True)], SPEC)
    begin_s = time.monotonic()
    streams = run(grid, [GraySource(20, fps=20), GraySource(20, fps=20, live=True)])
    assert time.monotonic() - begin_s > 0.9
    assert streams[0]._pace
    assert streams[0].profiler.frames_out == 20


@pytest.mark.parametrize("kind", [LiveGrid, FileGrid])
def test_an_output_of_the_grid_that_breaks_leaves_the_others(kind: type[Grid]) -> None:
    good = ListSink(wants_picture=True, name="good")
    bad = ListSink(wants_picture=True, fail_at=3, name="bad")
    grid = kind(["a"], [good, bad], SPEC)
    streams = run(grid, [GraySource(30, fps=30, live=kind is LiveGrid)])
    assert isinstance(grid.failure, SinkError)
    assert streams[0].failure is None
    assert len(good.items) > 10
    assert good.closed == bad.closed == 1


@pytest.mark.parametrize("kind", [LiveGrid, FileGrid])
def test_with_the_last_output_of_the_grid_its_streams_end_unless_they_have_others(
    kind: type[Grid],
) -> None:
    bad, own = ListSink(wants_picture=True, fail_at=3, name="bad"), ListSink(name="own")
    grid = kind(["a"], [bad], SPEC)
    live = kind is LiveGrid
    streams = run(grid, [GraySource(100_000, live=live, fps=100)])
    assert isinstance(streams[0].failure, SinkError)
    grid = kind(["a"], [ListSink(wants_picture=True, fail_at=3, name="bad")], SPEC)
    streams = run(grid, [GraySource(60, live=live, fps=60)], own)
    assert isinstance(streams[0].failure, SinkError)
    assert own.items[-1].frame.index >= 58


def test_an_output_that_does_not_open_is_told_before_anything_begins() -> None:
    grid = LiveGrid(["a"], [ListSink(fail_open=True, wants_picture=True)], SPEC)
    with pytest.raises(SinkError, match="no room"):
        grid.open()
