"""High dynamic range: grey steps of known luminance, through file, source and run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.realtime.cli import main
from rtseg.realtime.sources.resolve import open_source
from rtseg.realtime.sources.tonemap import HLG, PQ, ToneMapper

NITS = (0.0, 1.0, 10.0, 50.0, 100.0, 203.0, 1000.0, 10000.0)
STEP_PX = 32
SIZE = (STEP_PX * len(NITS), 64)


def pq(nits: float) -> float:
    """SMPTE ST 2084: the signal, 0 to 1, of a luminance."""
    y = (nits / 10000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)


def hlg(nits: float) -> float:
    """ARIB STD-B67 on a display of 1000 cd/m2 (system gamma 1.2), greys alone."""
    e = min(nits / 1000, 1.0) ** (1 / 1.2)
    return float(
        np.sqrt(3 * e) if e <= 1 / 12 else 0.17883277 * np.log(12 * e - 0.28466892) + 0.55991073
    )


def steps(curve: int, pixel_format: str = "yuv420p10le") -> av.VideoFrame:
    """Grey columns of the luminances of `NITS`, limited range, BT.2020."""
    frame = av.VideoFrame(*SIZE, "yuv420p10le")
    signal = [pq(nits) if curve == PQ else hlg(nits) for nits in NITS]
    columns = np.repeat([round(64 + 876 * value) if value else 64 for value in signal], STEP_PX)
    for plane, values in zip(frame.planes, (columns, 512, 512), strict=True):
        rows: NDArray[np.uint16] = np.frombuffer(memoryview(plane), np.uint16).reshape(
            plane.height, -1
        )
        rows[:, : plane.width] = values
    frame.colorspace, frame.color_range = 9, 1
    frame.color_trc, frame.color_primaries = curve, 9
    frame.pts, frame.time_base = 7, Fraction(1, 25)
    if pixel_format != "yuv420p10le":
        frame = frame.reformat(format=pixel_format)
    return frame


def write_hdr(path: Path, curve: int, frames: int = 10) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p10le"
        coder = stream.codec_context
        coder.colorspace, coder.color_range = 9, 1
        coder.color_trc, coder.color_primaries = curve, 9
        for index in range(frames):
            frame = steps(curve)
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def levels(frame: av.VideoFrame) -> list[float]:
    """Luma in the middle of each step."""
    luma = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(frame.height, -1)
    return [float(luma[8:-8, n * STEP_PX + 12 : n * STEP_PX + 20].mean()) for n in range(len(NITS))]


def is_sdr(frame: av.VideoFrame) -> bool:
    tags = (frame.colorspace, frame.color_trc, frame.color_primaries, frame.color_range)
    return [int(tag) for tag in tags] == [1, 1, 1, 1]


@pytest.mark.parametrize(("curve", "pixel_format"), [(PQ, "yuv420p10le"), (HLG, "p010le")])
def test_greys_keep_their_order_and_black_and_stay_grey(curve: int, pixel_format: str) -> None:
    frame = steps(curve, pixel_format)
    mapped = ToneMapper("a test").to_sdr(frame)
    assert mapped.format.name == "yuv420p"
    assert is_sdr(mapped)
    assert (mapped.pts, mapped.time_base) == (7, Fraction(1, 25))
    luma = levels(mapped)
    assert luma == sorted(luma)
    assert 15 <= luma[0] <= 18
    assert luma[-1] >= 225
    # White paper (203 cd/m2) is bright, neither clipped nor in the dark half.
    assert 128 < luma[NITS.index(203.0)] < 225
    assert luma[NITS.index(1000.0)] > luma[NITS.index(203.0)] + 15
    for plane in mapped.planes[1:]:
        assert np.abs(np.frombuffer(memoryview(plane), np.uint8).astype(int)[:128] - 128).max() <= 3


def test_other_frames_pass_untouched() -> None:
    frame = steps(PQ)
    frame.color_trc = 14  # BT.2020 in ten bits: wide colours, but SDR
    assert ToneMapper("a test").to_sdr(frame) is frame


def test_a_stream_that_changes_its_size_goes_on() -> None:
    mapper, frame = ToneMapper("a test"), steps(PQ)
    small = frame.reformat(width=128, height=64)
    assert int(small.color_trc) == PQ
    for each in (frame, small):
        mapped = mapper.to_sdr(each)
        assert (mapped.width, mapped.height) == (each.width, each.height)
        assert is_sdr(mapped)


def test_a_file_is_read_and_written_as_sdr(tmp_path: Path) -> None:
    clip, out = write_hdr(tmp_path / "hdr.mkv", PQ), tmp_path / "seg.mp4"
    with open_source(str(clip)) as source:
        frames = list(source.frames())
    assert len(frames) == 10
    assert all(is_sdr(frame.video) for frame in frames)
    expected = levels(ToneMapper("a test").to_sdr(steps(PQ)))
    assert np.abs(np.array(levels(frames[-1].video)) - expected).max() <= 1
    words = ["--source", clip, "--out", out, "--view", "input", "-q"]
    assert main([str(word) for word in words]) == 0
    with av.open(str(out)) as file:
        written = list(file.decode(video=0))
    assert len(written) == 10
    assert is_sdr(written[0])
