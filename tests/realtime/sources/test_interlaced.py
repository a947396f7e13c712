"""Interlaced video: a bar that moves, its rows taken in turn at two moments."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.calibration.calibration_set import select_images
from rtseg.engines.deinterlace import Deinterlacer
from rtseg.engines.preprocess import to_engine_input
from rtseg.realtime.cli import main
from rtseg.realtime.sources.resolve import open_source

SIZE = (160, 96)
FRAMES = 20


def bar(moment: int) -> NDArray[np.uint8]:
    """A packed yuv420p picture, gray with a bright bar that goes four columns a moment."""
    width, height = SIZE
    made = np.full((height * 3 // 2, width), 128, np.uint8)
    made[:height] = 60
    made[:height, 4 + 4 * (moment % 30) : 24 + 4 * (moment % 30)] = 220
    return made


def woven(index: int) -> NDArray[np.uint8]:
    made, later = bar(2 * index), bar(2 * index + 1)
    made[1 : SIZE[1] : 2] = later[1 : SIZE[1] : 2]
    return made


def flagged(index: int, field: str, made: NDArray[np.uint8] | None = None) -> av.VideoFrame:
    """A woven picture (or another one) that says which of its fields comes first, if any."""
    pixels = woven(index) if made is None else made
    frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
    frame.pts, frame.time_base = 40 * index, Fraction(1, 1000)
    return marked(frame, field)


def marked(frame: av.VideoFrame, field: str) -> av.VideoFrame:
    if frame.time_base is None:
        frame.pts, frame.time_base = 0, Fraction(1, 1000)
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("setfield", field), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def write(path: Path, *, interlaced: bool = True, rotation: int = 0) -> Path:
    """Write woven pictures, or the first moment of each of them, progressive."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"qp": "4", "bf": "2", "preset": "veryfast"}
        if interlaced:
            stream.options = {**stream.options, "x264-params": "tff=1"}
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(FRAMES):
            made = woven(index) if interlaced else bar(2 * index)
            frame = flagged(index, "tff" if interlaced else "prog", made)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def luma(frame: av.VideoFrame) -> NDArray[np.float32]:
    rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(frame.height, -1)
    return rows[:, : frame.width].astype(np.float32)


def teeth(frame: av.VideoFrame) -> float:
    """How much the rows differ from those next to them."""
    return float(np.abs(np.diff(luma(frame), axis=0)).mean())


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


@pytest.mark.parametrize("suffix", ["mp4", "ts", "avi"])
def test_an_interlaced_file_is_read_progressive_without_a_frame_less(
    tmp_path: Path, suffix: str
) -> None:
    clip = write(tmp_path / f"drive.{suffix}")
    plain = write(tmp_path / f"plain.{suffix}", interlaced=False)
    raw = decoded(clip)
    assert all(frame.interlaced_frame for frame in raw)
    assert min(map(teeth, raw)) > 7
    with open_source(str(clip)) as source, open_source(str(plain)) as other:
        frames, wanted = list(source.frames()), list(other.frames())
    assert len(frames) == FRAMES == len(wanted)
    assert [frame.pts for frame in frames] == [frame.pts for frame in wanted]
    for frame, progressive in zip(frames[1:], wanted[1:], strict=True):
        assert not frame.video.interlaced_frame
        assert teeth(frame.video) < 2
        # The first of its two moments, where the frame before told what moves.
        assert np.abs(luma(frame.video) - luma(progressive.video)).mean() < 3
        assert frame.video.time_base == progressive.video.time_base
        assert frame.lasts_s == progressive.lasts_s


def test_what_comes_after_turns_whole_pictures(tmp_path: Path) -> None:
    clip = write(tmp_path / "drive.mp4", rotation=90)
    with open_source(str(clip)) as source:
        frames = list(source.frames())
    assert (source.info.width, source.info.height) == SIZE[::-1]
    assert len(frames) == FRAMES
    # Rows have become columns.
    assert all(np.abs(np.diff(luma(f.video), axis=1)).mean() < 6 for f in frames[1:])


def test_what_is_written_is_progressive(tmp_path: Path) -> None:
    clip, out = write(tmp_path / "drive.mp4"), tmp_path / "seg.mp4"
    words = ["--source", clip, "--out", out, "--view", "input", "-q"]
    assert main([str(word) for word in words]) == 0
    written = decoded(out)
    assert len(written) == FRAMES
    assert not any(frame.interlaced_frame for frame in written)
    assert max(map(teeth, written[1:])) < 2


def test_a_network_is_calibrated_on_what_a_run_sees(tmp_path: Path) -> None:
    clip = write(tmp_path / "drive.mp4")
    with open_source(str(clip)) as source:
        seen = [to_engine_input(frame.video, 64, 64) for frame in source.frames()]
    chosen = select_images(clip, FRAMES)
    for expected, pixels in zip(seen, chosen.frames(64, 64), strict=True):
        assert np.array_equal(pixels, expected)


def test_each_frame_comes_out_at_once_and_others_pass_untouched() -> None:
    fields = Deinterlacer("a test")
    for index, field in enumerate(["prog", "tff", "tff", "prog", "tff", "prog", "prog", "tff"]):
        frame = flagged(index, field)
        made = fields.progressive(frame)
        assert (made is frame) == (field == "prog")
        assert not made.interlaced_frame
        assert (made.pts, made.time_base) == (40 * index, Fraction(1, 1000))
        if field == "tff" and index > 1:
            # Its first field is kept as it is.
            assert np.array_equal(luma(made)[::2], luma(frame)[::2])
            assert teeth(made) < 2


def test_the_second_field_is_kept_where_it_is_the_first_in_time() -> None:
    fields = Deinterlacer("a test")
    for index in range(4):
        frame = flagged(index, "bff")
        made = fields.progressive(frame)
        assert np.array_equal(luma(made)[1::2], luma(frame)[1::2])


def test_a_stream_that_changes_its_size_goes_on() -> None:
    fields = Deinterlacer("a test")
    for frame in (flagged(0, "tff"), flagged(1, "tff").reformat(width=80, height=48)):
        made = fields.progressive(frame)
        assert (made.width, made.height) == (frame.width, frame.height)
        assert not made.interlaced_frame


@pytest.mark.parametrize("pixel_format", ["yuvj420p", "nv12", "yuyv422", "yuv420p10le"])
def test_decoders_devices_and_capture_cards_have_other_formats(pixel_format: str) -> None:
    fields = Deinterlacer("a test")
    for index in range(3):
        plain = av.VideoFrame.from_ndarray(woven(index), format="yuv420p")
        frame = marked(plain.reformat(format=pixel_format), "tff")
        frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 5, 1, 6, 6
        made = fields.progressive(frame)
    assert teeth(frame.reformat(format="yuv420p")) > 7
    assert teeth(made.reformat(format="yuv420p")) < 2
    tags = (made.colorspace, made.color_range, made.color_trc, made.color_primaries)
    assert [int(tag) for tag in tags] == [5, 1, 6, 6]
