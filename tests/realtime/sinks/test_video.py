"""Video files: pictures, times, sound and colours come back as they were written."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.errors import UsageError
from rtseg.realtime.frame import Frame, Rendered
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.video import VideoFileSink
from tests.data import shared_data
from tests.media import make_video, picture
from tests.realtime.sinks.parts import (
    SUFFIXES,
    TICKS,
    TIME_BASE,
    context,
    read,
    rendered,
    tolerance,
    write_frames,
)


def transcode(path, out, *, options=None, limit=None):
    """Copy a file through the sink as the loop does, and return the source's streams."""
    with av.open(str(path)) as source:
        video = source.streams.video[0]
        beside = tuple(s for s in source.streams if s.type in ("audio", "subtitle"))
        about = context(
            (video.width, video.height),
            fps=video.average_rate,
            time_base=video.time_base,
            passthrough=beside,
            sample_aspect_ratio=Fraction(video.sample_aspect_ratio or 1),
        )
        renderer = Renderer(CITYSCAPES)
        labels = np.zeros((4, 4), np.uint8)
        sent, waiting, times = {}, [], []
        first = None
        with VideoFileSink(out, options) as sink:
            sink.open(about)
            for packet in source.demux(video, *beside):
                if packet.stream.type != "video":
                    if packet.size and not packet.is_discard:
                        waiting.append(packet)
                        entry = (packet.pts * packet.time_base, packet.size)
                        sent.setdefault(packet.stream.index, []).append(entry)
                    continue
                for decoded in packet.decode():
                    if limit is not None and len(times) >= limit:
                        continue
                    first = decoded.pts if first is None else first
                    frame = Frame(
                        len(times), decoded, decoded.pts - first, video.time_base,
                        packets=tuple(waiting),
                    )  # fmt: skip
                    waiting = []
                    times.append(frame.pts * frame.time_base)
                    sink.write(Rendered(frame, labels, renderer.render(frame, labels)))
            sink.write_packets(tuple(waiting))
        last = decoded.duration * decoded.time_base if decoded.duration else None
    return sent, times, last


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_times_size_and_colours_come_back(tmp_path, suffix):
    path = tmp_path / f"seg{suffix}"
    with VideoFileSink(path) as sink:
        sink.open(context())
        write_frames(sink, 30)
    back = read(path)
    wanted = [index * TICKS * TIME_BASE for index in range(30)]
    assert len(back.pts_s) == 30
    assert max(abs(a - b) for a, b in zip(back.pts_s, wanted, strict=True)) <= tolerance(suffix)
    assert (back.size, back.pixel_format) == ((96, 64), "yuv420p")
    assert back.streams[0][1] == "h264"
    assert back.colours[:2] == (1, 1)
    if suffix != ".mkv":
        assert back.duration_s == 30 * TICKS * TIME_BASE


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("preset", ["ultrafast", "veryfast"])
def test_variable_frame_rate_is_exact(tmp_path, suffix, preset):
    """veryfast has B-frames, whose packets come in another order."""
    pts = [0, 100, 1700, 1701, 5000, 20000, 20512, 33333, 40000, 90001, 90002, 128000]
    path = tmp_path / f"seg{suffix}"
    with VideoFileSink(path, EncodeOptions(preset=preset)) as sink:
        sink.open(context())
        write_frames(sink, len(pts), pts=pts)
    back = read(path)
    wanted = [value * TIME_BASE for value in pts]
    assert max(abs(a - b) for a, b in zip(back.pts_s, wanted, strict=True)) <= tolerance(suffix)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_broadcast_rates_are_not_rounded(tmp_path, suffix):
    path = tmp_path / f"seg{suffix}"
    with VideoFileSink(path) as sink:
        sink.open(context(fps=Fraction(30000, 1001), time_base=Fraction(1001, 30000)))
        for index, item in enumerate(rendered(12)):
            frame = replace(item.frame, pts=index, time_base=Fraction(1001, 30000))
            item.picture.pts, item.picture.time_base = index, frame.time_base
            sink.write(replace(item, frame=frame))
    assert read(path).pts_s == [index * Fraction(1001, 30000) for index in range(12)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sound_is_copied_byte_for_byte(tmp_path, suffix):
    source = make_video(tmp_path / "in.mp4", frames=60, audio=True)
    out = tmp_path / f"out{suffix}"
    sent, times, last = transcode(source, out)
    back = read(out)
    assert len(sent) == len(back.packets) == 1
    (before,), (after,) = sent.values(), back.packets.values()
    assert [size for _, size in after] == [size for _, size in before]
    slack = Fraction(1, 1000) if suffix == ".mkv" else Fraction(0)
    assert max(abs(a[0] - b[0]) for a, b in zip(after, before, strict=True)) <= slack
    assert max(abs(a - b) for a, b in zip(back.pts_s, times, strict=True)) <= tolerance(suffix)
    if suffix != ".mkv":
        assert back.duration_s == times[-1] + last


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_two_sound_tracks_and_subtitles(tmp_path, suffix, caplog):
    source = shared_data("videos", "odd", "nasa_13013.mp4")
    out = tmp_path / f"out{suffix}"
    sent, times, _ = transcode(source, out)
    back = read(out)
    sound = [stream for stream in back.streams if stream[0] == "audio"]
    assert [stream[1:3] for stream in sound] == [("aac", "eng"), ("aac", "eng")]
    sizes = sorted(tuple(size for _, size in track) for track in sent.values())
    written = sorted(tuple(size for _, size in track) for track in back.packets.values())
    assert len(back.pts_s) == len(times)
    if suffix == ".mp4":
        assert sum(stream[0] == "subtitle" for stream in back.streams) == 2
        assert written == sizes
        assert not caplog.records
    else:
        # Matroska has no mov_text: those tracks are left out, and that is said
        assert written == [track for track in sizes if len(track) > 20]
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 2
        assert all("left out subtitle track" in text and "mov_text, eng" in text for text in said)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_run_that_is_stopped_has_no_sound_after_its_picture(tmp_path, suffix):
    """The source read two seconds of sound ahead; only one second of picture was written."""
    source = make_video(tmp_path / "in.mp4", frames=75, audio=True)
    with av.open(str(source)) as file:
        sound = file.streams.audio[0]
        packets = tuple(packet for packet in file.demux(sound) if packet.size)
        assert len(packets) > 130
        for name, whole in ((f"part{suffix}", False), (f"whole{suffix}", True)):
            with VideoFileSink(tmp_path / name) as sink:
                sink.open(context(passthrough=(sound,)))
                for item in rendered(25):
                    ahead = packets if item.frame.index == 0 else ()
                    sink.write(replace(item, frame=replace(item.frame, packets=ahead)))
                if whole:
                    sink.write_packets(())
    (part,) = read(tmp_path / f"part{suffix}").packets.values()
    (everything,) = read(tmp_path / f"whole{suffix}").packets.values()
    assert len(everything) == len(packets)
    assert part == everything[: len(part)]
    assert Fraction(9, 10) < max(time for time, _ in part) < 1


def test_no_audio(tmp_path):
    source = make_video(tmp_path / "in.mp4", frames=10, audio=True)
    transcode(source, tmp_path / "out.mp4", options=EncodeOptions(audio=False))
    assert [stream[0] for stream in read(tmp_path / "out.mp4").streams] == ["video"]


def test_real_clip_keeps_its_length(tmp_path):
    source = shared_data("videos", "highway-720p.mp4")
    sent, times, last = transcode(source, tmp_path / "out.mp4")
    back = read(tmp_path / "out.mp4")
    assert back.pts_s == times
    assert back.duration_s == times[-1] + last == 4
    assert [entry[1] for entry in back.packets[1]] == [entry[1] for entry in sent[0]]


def test_two_outputs_get_the_same_sound(tmp_path):
    """Muxing changes a packet; the other output must not see that."""
    source = make_video(tmp_path / "in.mp4", frames=10, audio=True)
    with av.open(str(source)) as file:
        sound = file.streams.audio[0]
        packets = tuple(packet for packet in file.demux(sound) if packet.size)
        before = [(p.pts, p.time_base, p.size, p.stream_index) for p in packets]
        for name in ("a.mkv", "b.mp4", "c.mkv"):
            with VideoFileSink(tmp_path / name) as sink:
                sink.open(context(passthrough=(sound,)))
                write_frames(sink, 5)
                sink.write_packets(packets)
        assert [(p.pts, p.time_base, p.size, p.stream_index) for p in packets] == before
    first, third = read(tmp_path / "a.mkv"), read(tmp_path / "c.mkv")
    assert first.packets == third.packets
    assert len(first.packets[1]) == len(read(tmp_path / "b.mp4").packets[1]) == len(packets)


def test_pixel_shape_is_kept(tmp_path):
    with VideoFileSink(tmp_path / "a.mp4") as sink:
        sink.open(context(sample_aspect_ratio=Fraction(4, 3)))
        write_frames(sink, 3)
    assert read(tmp_path / "a.mp4").aspect == Fraction(4, 3)


@pytest.mark.parametrize(("matrix", "full"), [(1, False), (6, False), (1, True), (5, True)])
def test_colour_tags_are_kept(tmp_path, matrix, full):
    renderer = Renderer(CITYSCAPES)
    with VideoFileSink(tmp_path / "a.mp4") as sink:
        sink.open(context())
        for index in range(3):
            video = picture(index, (96, 64))
            video.colorspace, video.color_range = matrix, 2 if full else 1
            video.color_trc, video.color_primaries = 1, 5
            frame = Frame(index, video, index * TICKS, TIME_BASE)
            labels = np.zeros((1, 1), np.uint8)
            sink.write(Rendered(frame, labels, renderer.render(frame, labels)))
    back = read(tmp_path / "a.mp4")
    assert back.colours == (matrix, 2 if full else 1, 1, 5)
    assert back.pixel_format == ("yuvj420p" if full else "yuv420p")


def test_the_file_is_an_ordinary_one_at_the_end(tmp_path):
    """One moov, one mdat, no fragments: every player and browser takes that."""
    with VideoFileSink(tmp_path / "a.mp4") as sink:
        sink.open(context())
        write_frames(sink, 80)
    assert sorted(boxes(tmp_path / "a.mp4")) == ["free", "ftyp", "mdat", "moov"]


def boxes(path):
    data, place, names = Path(path).read_bytes(), 0, []
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        names.append(data[place + 4 : place + 8].decode("latin-1"))
        place += size
    assert place == len(data)
    return names


def test_times_that_do_not_rise_are_corrected_and_said_once(tmp_path, caplog):
    with VideoFileSink(tmp_path / "a.mp4") as sink:
        sink.open(context())
        write_frames(sink, 5, pts=[0, 512, 512, 300, 2000])
    times = [value / TIME_BASE for value in read(tmp_path / "a.mp4").pts_s]
    assert times == [0, 512, 513, 514, 2000]
    assert [r.getMessage() for r in caplog.records if "do not rise" in r.getMessage()] == [
        f"{tmp_path / 'a.mp4'}: time stamps of the source do not rise; corrected"
    ]


def test_another_clock_than_the_sources_is_converted_without_touching_the_picture(tmp_path):
    with VideoFileSink(tmp_path / "a.mp4") as sink:
        sink.open(context(time_base=Fraction(1, 90000)))
        for item in rendered(5):
            before = (item.picture.pts, item.picture.time_base, bytes(item.picture.planes[0]))
            sink.write(item)
            assert (item.picture.pts, item.picture.time_base, bytes(item.picture.planes[0])) == (
                before
            )
    assert read(tmp_path / "a.mp4").pts_s == [index * TICKS * TIME_BASE for index in range(5)]


def test_a_directory_gets_a_file_named_after_the_source(tmp_path):
    with VideoFileSink(tmp_path) as sink:
        sink.open(context())
        write_frames(sink, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["drive_seg.mp4"]
    with pytest.raises(UsageError) as caught:
        VideoFileSink(tmp_path).open(context())
    assert caught.value.reason == "EXISTS"


@pytest.mark.parametrize("codec", ["h265", "av1", "vp9"])
def test_other_codecs(tmp_path, codec):
    with VideoFileSink(tmp_path / "a.mp4", EncodeOptions(codec=codec)) as sink:
        sink.open(context((160, 128)))
        write_frames(sink, 6, size=(160, 128))
    back = read(tmp_path / "a.mp4")
    assert back.pts_s == [index * TICKS * TIME_BASE for index in range(6)]


def test_quality_and_bit_rate_are_heeded(tmp_path):
    def size(**options):
        path = tmp_path / "a.mp4"
        with VideoFileSink(path, EncodeOptions(**options), overwrite=True) as sink:
            sink.open(context((320, 240)))
            random = np.random.default_rng(0)
            for item in rendered(20, size=(320, 240)):
                luma = np.frombuffer(item.picture.planes[0], np.uint8)
                luma[:] = random.integers(0, 255, luma.size, np.uint8)
                sink.write(item)
        return path.stat().st_size

    assert size(crf=10) > 1.5 * size(crf=40)
    assert size(bitrate_bps=4_000_000) > 1.5 * size(bitrate_bps=500_000)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("realtime", [False, True])
def test_thinned_out_pictures_last_until_the_next_or_the_end(tmp_path, suffix, realtime):
    out = tmp_path / f"thin{suffix}"
    options = EncodeOptions(preset="ultrafast") if realtime else EncodeOptions()
    about = context(duration_s=3.0)
    items = list(rendered(75))[::30]  # at 0, 1.2 and 2.4 s
    sink = VideoFileSink(out, options)
    sink.open(about)
    for item in items:
        sink.write(item)
    sink.close()
    with av.open(str(out)) as container:
        (video,) = container.streams.video
        packets = [p for p in container.demux(video) if p.pts is not None]
        ends = [(p.pts + (p.duration or 0)) * p.time_base for p in packets]
        assert len(packets) == 3
        assert float(max(ends)) == pytest.approx(3.0, abs=0.01)
        assert container.duration / 1e6 == pytest.approx(3.0, abs=0.01)
    assert float(sink.end_s) == pytest.approx(3.0)


def test_a_picture_that_nothing_was_left_out_before_keeps_its_own_length(tmp_path):
    sink = VideoFileSink(tmp_path / "gap.mp4")
    sink.open(context(duration_s=9.0))
    for item in rendered(3, pts=[0, TICKS, 50 * TICKS]):
        item.frame.video.duration, item.frame.video.time_base = TICKS, TIME_BASE
        sink.write(item)
    sink.close()
    assert sink.end_s == 51 * TICKS * TIME_BASE


def test_a_slower_preset_gives_smaller_files(tmp_path):
    size = {}
    for preset in ("ultrafast", "veryfast"):
        path = tmp_path / f"{preset}.mp4"
        with VideoFileSink(path, EncodeOptions(preset=preset)) as sink:
            sink.open(context())
            write_frames(sink, 60)
        size[preset] = path.stat().st_size
    assert size["veryfast"] < size["ultrafast"]


@pytest.mark.parametrize(
    ("codec", "preset", "allowed"),
    [("h264", "quick", "veryfast"), ("av1", "fast", "10"), ("vp9", "fast", "none")],
)
def test_a_preset_that_the_encoder_does_not_know(codec, preset, allowed):
    with pytest.raises(UsageError, match=f"unknown preset '{preset}' of {codec}.*{allowed}"):
        EncodeOptions(codec=codec, preset=preset)
