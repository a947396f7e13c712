"""Video files: parts, laps, orientation, timestamps and sound."""

from __future__ import annotations

import gc
import itertools
import logging
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.realtime.errors import SourceError, UsageError
from rtseg.realtime.frame import now_ns
from rtseg.realtime.sources.hwaccel import say_if_software
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from tests.data import shared_data
from tests.media import (
    SAMPLE_RATE,
    make_images,
    make_video,
    picture,
    sine,
    white_corner,
)
from tests.realtime.sources.clips import PARTS, numbers, read


def packets_of(path: Path, **options: Any) -> list[av.Packet[Any]]:
    with open_source(str(path), SourceOptions(**options)) as source:
        packets = [packet for frame in source.frames() for packet in frame.packets]
        return packets + list(source.remaining_packets())


@pytest.mark.parametrize("suffix", sorted(PARTS))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=st.integers(0, 39), count=st.integers(1, 45))
def test_a_part_begins_and_ends_at_the_exact_frame(
    longer: dict[str, Path], suffix: str, first: int, count: int
) -> None:
    frames = read(longer[suffix], start_s=first / 25, duration_s=count / 25)
    assert numbers(frames) == list(range(first, min(first + count, 40)))
    assert frames[0].pts == 0


def test_a_start_past_the_end_says_how_long_the_file_is(longer: dict[str, Path]) -> None:
    with pytest.raises(SourceError) as caught:
        read(longer["mp4"], start_s=1.6)
    assert caught.value.reason == "NO_FRAMES"
    assert "--start 1.6 is past its end (it lasts 1.60 s)" in str(caught.value)


def test_what_a_part_says_of_itself(longer: dict[str, Path]) -> None:
    options = SourceOptions(start_s=1.0, duration_s=5.0, loop=2)
    with open_source(str(longer["mp4"]), options) as source:
        assert source.info.duration_s == pytest.approx(1.2)
        assert source.info.frames == 30
        assert numbers(list(source.frames())) == list(range(25, 40)) * 2


@pytest.mark.parametrize("suffix", sorted(PARTS))
def test_laps_follow_without_gap(longer: dict[str, Path], suffix: str) -> None:
    frames = read(longer[suffix], loop=3)
    assert numbers(frames) == list(range(40)) * 3
    times = [frame.pts * frame.time_base for frame in frames]
    assert all(abs(t - Fraction(n, 25)) <= frames[0].time_base for n, t in enumerate(times))


def test_the_first_frame_comes_when_it_is_taken(longer: dict[str, Path]) -> None:
    with open_source(str(longer["mp4"])) as source:
        asked_ns = now_ns()
        assert all(frame.captured_ns >= asked_ns for frame in source.frames())


def test_for_ever_has_no_end(tmp_path: Path) -> None:
    path = make_video(tmp_path / "drive.mp4", 3)
    with open_source(str(path), SourceOptions(loop=0)) as source:
        assert source.info.frames is None
        assert source.info.duration_s is None
        frames = list(itertools.islice(source.frames(), 100))
    assert numbers(frames) == [n % 3 for n in range(100)]


def test_all_of_the_sound_comes_along(tmp_path: Path) -> None:
    path = make_video(tmp_path / "drive.mp4", 50, audio=True)
    with av.open(str(path)) as container:
        expected = [bytes(p) for p in container.demux(audio=0) if p.size]
        priming = [p.is_discard for p in av.open(str(path)).demux(audio=0) if p.size].count(True)
    packets = packets_of(path)
    assert [bytes(packet) for packet in packets] == expected[priming:]
    assert packets[0].pts is not None
    assert abs(packets[0].pts * packets[0].time_base) < Fraction(1, 20)


def test_the_sound_of_a_part_lines_up_with_its_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "drive.mp4", 75, audio=True)
    whole = {bytes(p): p.pts * p.time_base for p in packets_of(path)}  # type: ignore[operator]
    part = packets_of(path, start_s=1.0, duration_s=1.0)
    for packet in part:
        assert packet.pts is not None
        at = packet.pts * packet.time_base
        assert 0 <= at < 1
        assert abs(whole[bytes(packet)] - 1 - at) <= packet.time_base
    block = Fraction(1024, SAMPLE_RATE)
    assert len(part) * block == pytest.approx(1, abs=float(2 * block))


def test_the_sound_of_laps_goes_on(tmp_path: Path) -> None:
    path = make_video(tmp_path / "drive.mp4", 25, audio=True)
    times = [p.pts * p.time_base for p in packets_of(path, loop=3)]  # type: ignore[operator]
    block = Fraction(1024, SAMPLE_RATE)
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert min(steps) > 0
    assert max(steps) <= 3 * block
    assert times[-1] > 2.9


def test_two_tracks_and_subtitles_come_along() -> None:
    path = shared_data("videos", "odd", "nasa_13013.mp4")
    with open_source(str(path)) as source:
        kinds = [stream.type for stream in source.info.passthrough]
    assert kinds == ["audio", "audio", "subtitle", "subtitle"]
    assert {packet.stream_index for packet in packets_of(path)} == {1, 2, 4, 5}


@pytest.mark.parametrize(
    ("rotation", "corner", "size"),
    [
        (0, "top left", (96, 64)),
        (90, "bottom left", (64, 96)),
        (180, "bottom right", (96, 64)),
        (270, "top right", (64, 96)),
        (-90, "top right", (64, 96)),
    ],
)
def test_frames_come_upright(
    tmp_path: Path, rotation: int, corner: str, size: tuple[int, int]
) -> None:
    path = make_video(tmp_path / "phone.mp4", 3, rotation=rotation)
    with open_source(str(path)) as source:
        assert (source.info.width, source.info.height) == size
        frames = list(source.frames())
    assert [white_corner(frame.video) for frame in frames] == [corner] * 3
    assert numbers(frames) == [0, 1, 2]
    assert frames[0].video.format.name == "yuv420p"


@pytest.mark.parametrize(("hflip", "vflip"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_mirrored_matrices_are_undone_as_ffmpeg_does(
    tmp_path: Path, degrees: int, hflip: bool, vflip: bool
) -> None:
    path = tmp_path / "mirrored.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = 96, 64
        stream.set_display_rotation(degrees, hflip=hflip, vflip=vflip)
        out.mux(stream.encode(picture(0, (96, 64))))
        out.mux(stream.encode(None))
    (frame,) = read(path)
    # The point of the white block, carried through the matrix of ISO/IEC 14496-12 by hand.
    with av.open(str(path)) as container:
        side = next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    matrix = (
        np.frombuffer(bytes(side), np.int32) if side is not None else np.eye(3, dtype=int).ravel()
    )
    a, b, _, c, d = (int(value) for value in matrix[:5])
    x, y = -a - c, -b - d
    expected = f"{'top' if y < 0 else 'bottom'} {'left' if x < 0 else 'right'}"
    assert white_corner(frame.video) == expected


def test_what_only_cameras_heed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_video(tmp_path / "a.mp4", 3)
    with open_source(str(path), SourceOptions(width=64, height=48)) as source:
        assert (source.info.width, source.info.height) == (96, 64)
    assert caplog.text.count("are asked of cameras; a video keeps its own") == 1


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    stamps = [0, 40, 90, 400, 410, 900]
    path = make_video(tmp_path / "vfr.mp4", len(stamps), vfr_ms=stamps)
    frames = read(path)
    assert [round(frame.pts_s * 1000) for frame in frames] == stamps


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24000, 1001), 12, 60])
def test_the_frame_rate_is_exact(tmp_path: Path, fps: Fraction | int) -> None:
    path = make_video(tmp_path / "drive.mp4", 10, fps=fps)
    with open_source(str(path)) as source:
        assert source.info.fps == fps
        assert source.info.duration_s == pytest.approx(10 / fps)
        assert source.info.frames == 10


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le"]
)
def test_frames_stay_in_the_decoders_format(tmp_path: Path, pixel_format: str) -> None:
    path = make_video(tmp_path / "drive.mp4", 2, pixel_format=pixel_format)
    assert {frame.video.format.name for frame in read(path)} == {pixel_format}


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    plain = make_video(tmp_path / "plain.mp4", 2)
    anamorphic, turned = tmp_path / "dv.mp4", tmp_path / "turned.mp4"
    for path, rotation in ((anamorphic, 0), (turned, 90)):
        with av.open(str(plain)), av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = 96, 64
            stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
            if rotation:
                stream.set_display_rotation(rotation)
            out.mux(stream.encode(picture(0, (96, 64))))
            out.mux(stream.encode(None))
    with open_source(str(anamorphic)) as source:
        assert source.info.sample_aspect_ratio == Fraction(16, 11)
    with open_source(str(turned)) as source:
        assert source.info.sample_aspect_ratio == Fraction(11, 16)


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    cover = (make_images(tmp_path, 1, (640, 480)) / "frame_000000.png").read_bytes()
    for name, with_video in (("film.mkv", True), ("song.mp4", False)):
        path = tmp_path / name
        with av.open(str(path), "w", format="mp4") as out:
            art = out.add_stream("png")
            assert isinstance(art, av.VideoStream)
            art.width, art.height, art.pix_fmt = 640, 480, "rgb24"
            art.disposition = av.stream.Disposition.attached_pic
            stream = out.add_stream(
                "libx264" if with_video else "aac", rate=25 if with_video else SAMPLE_RATE
            )
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts = art, 0, 0
            packet.time_base = Fraction(1, 25)
            if isinstance(stream, av.VideoStream):
                stream.width, stream.height = 96, 64
                out.mux(packet)
                for index in range(5):
                    frame = picture(index, (96, 64))
                    frame.pts, frame.time_base = index, Fraction(1, 25)
                    out.mux(stream.encode(frame))
            else:
                assert isinstance(stream, av.AudioStream)
                out.mux(packet)
                for sound in sine(0.2):
                    out.mux(stream.encode(sound))
            out.mux(stream.encode(None))
    assert numbers(read(tmp_path / "film.mkv")) == [0, 1, 2, 3, 4]
    with pytest.raises(SourceError) as caught:
        read(tmp_path / "song.mp4")
    assert caught.value.reason == "NOT_A_VIDEO"


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_second_video_track_is_left_out_aloud(
    tmp_path: Path, container: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As of dashcams that keep the rear camera in the same file."""
    path = tmp_path / "two.video"
    with av.open(str(path), "w", format=container) as out:
        tracks = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for track, size in zip(tracks, ((96, 64), (48, 32)), strict=True):
            assert isinstance(track, av.VideoStream)
            track.width, track.height = size
        for index in range(5):
            for track in tracks:
                frame = picture(index, (track.width, track.height))
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(track.encode(frame))
        for track in tracks:
            out.mux(track.encode(None))
    assert numbers(read(path)) == [0, 1, 2, 3, 4]
    (said,) = [line.message for line in caplog.records if "tracks" in line.message]
    assert "2 video tracks; only number 1 (96x64) is segmented" in said
    caplog.clear()
    rear = read(path, track=2)
    assert numbers(rear) == [0, 1, 2, 3, 4]
    assert {(frame.video.width, frame.video.height) for frame in rear} == {(48, 32)}
    assert "tracks" not in caplog.text  # who names one knows
    with pytest.raises(SourceError, match=r"it has 2 video tracks. Received: --track 3") as caught:
        read(path, track=3)
    assert caught.value.reason == "NOT_FOUND"


def test_a_decoder_device_that_is_absent_is_replaced_by_software(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from av.codec.hwaccel import hwdevices_available

    path = make_video(tmp_path / "drive.mp4", 5)
    assert numbers(read(path, hwaccel="auto")) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError) as caught:
        read(path, hwaccel="abacus")
    assert "abacus" in str(caught.value)
    if "cuda" not in hwdevices_available() or Path("/dev/nvidia0").exists():
        pytest.skip("needs an FFmpeg with CUDA on a machine without")
    with caplog.at_level(logging.WARNING):
        assert numbers(read(path, hwaccel="cuda")) == [0, 1, 2, 3, 4]
    assert "decoding in software" in caplog.text


@pytest.mark.parametrize(
    ("pixel_format", "opened", "said"),
    [
        ("yuv420p", True, 1),  # as FFmpeg decodes itself
        ("yuvj420p", True, 1),
        ("yuv420p10le", True, 1),
        ("nv12", True, 0),  # as devices give pictures
        ("p010le", True, 0),
        ("yuv420p", False, 0),
    ],
)
def test_a_device_that_does_not_decode_is_said(
    pixel_format: str, opened: bool, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    context: Any = SimpleNamespace(is_hwaccel=opened)
    frame = av.VideoFrame(64, 64, pixel_format)
    say_if_software(context, frame, "cuda", "drive.mp4")
    text = "drive.mp4: no decoding on cuda here; decoding in software"
    assert [record.message for record in caplog.records] == [text] * said


def test_a_reader_asks_its_first_picture_who_decoded_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "rtseg.realtime.sources.decode.say_if_software",
        lambda context, picture, device, name: asked.append(device),
    )
    path = make_video(tmp_path / "drive.mp4", 5)
    assert numbers(read(path, hwaccel="auto")) == [0, 1, 2, 3, 4]
    assert asked == ["auto"]
    read(path)
    assert asked == ["auto"]


def test_a_closed_file_leaves_no_decoder_behind(tmp_path: Path) -> None:
    """Found by benchmarks/soak.py: two threads and all pictures of each connection stayed."""
    clip = make_video(tmp_path / "x.mp4", frames=5)

    def read() -> None:
        with open_source(str(clip)) as source:
            assert sum(1 for _ in source.frames()) == 5

    read()
    gc.collect()
    before = psutil.Process().num_threads()
    gc.disable()
    try:
        for _ in range(5):
            read()
        assert psutil.Process().num_threads() <= before
    finally:
        gc.enable()
