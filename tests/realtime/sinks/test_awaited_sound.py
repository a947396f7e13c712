"""The sound of live sources in recordings."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
from fractions import Fraction

import av
import pytest

from rtseg.realtime.frame import Rendered
from rtseg.realtime.sinks.resolve import takes_sound
from rtseg.realtime.sinks.segments import SegmentedVideoSink, SegmentOptions
from rtseg.realtime.sinks.sink import SinkContext
from rtseg.realtime.sinks.video import VideoFileSink
from rtseg.realtime.sources.resolve import open_source
from tests.realtime.sinks.parts import SPEC, labels_of
from tests.realtime.sinks.sounding import (
    FPS,
    SIZE,
    free_port,
    make,
    needs_ffmpeg,
    offsets,
    placed,
)
from tests.realtime.sinks.test_live_sound import sending

LENGTH_S = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make(tmp_path_factory.mktemp("clip") / "drive.mp4", length_s=LENGTH_S)


def frames_of(clip, *, silent_from_s=99.0, first_s=0.0):
    """Return what a live source would give: its facts, and its frames with their sound."""
    with open_source(str(clip)) as source:
        info = dataclasses.replace(source.open(), live=True)
        frames, early = [], ()
        for frame in source.frames():
            if frame.pts_s < first_s:
                early += frame.packets  # dropped frames hand their sound on
                continue
            heard = tuple(
                packet
                for packet in early + frame.packets
                if packet.pts * packet.time_base < silent_from_s
            )
            early = ()
            frames.append(dataclasses.replace(frame, packets=heard))
        yield info, frames


live = contextlib.contextmanager(frames_of)


def put(sink, frame):
    sink.write(Rendered(frame, labels_of(0), frame.video, {}))


def length_s(path, kind):
    """Return when a track ends, as a player finds it now."""
    with av.open(str(path)) as file:
        stream = getattr(file.streams, kind)[0]
        return max(float(p.pts * p.time_base) for p in file.demux(stream) if p.size)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_recording_of_a_live_source_has_its_sound(tmp_path, clip, name):
    sink = VideoFileSink(tmp_path / name)
    with live(clip, first_s=0.5) as (info, frames):
        sink.open(SinkContext(info, SPEC, *SIZE))
        for frame in frames:
            put(sink, frame)
        sink.write_packets(())
        sink.close()
    moved, ways = offsets(clip, sink.path)
    assert len(moved) > 0.9 * (LENGTH_S - 0.5) * 48_000 / 1024
    assert max(moved) - min(moved) < 0.01
    assert max(abs(way - moved[0]) for way in ways[1:]) < 0.05
    assert min(time_s for _, time_s in placed(sink.path)[0]) >= 0.5 - 0.001


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_recording_plays_up_to_now_when_the_sound_has_ended(tmp_path, clip, name):
    """Killed at any moment, it has all but the last pictures, though sound was announced."""
    sink = VideoFileSink(tmp_path / name)
    with live(clip, silent_from_s=2.5) as (info, frames):
        sink.open(SinkContext(info, SPEC, *SIZE))
        for frame in frames:
            put(sink, frame)
        # Not closed yet: a fragment of a second, and a second for which pictures may wait.
        assert length_s(sink.path, "video") > LENGTH_S - 3.5
        assert 2.0 < length_s(sink.path, "audio") < 2.6
        sink.close()
    assert length_s(sink.path, "video") == pytest.approx(LENGTH_S, abs=2 / FPS)


def test_sound_that_never_comes_is_left_out(tmp_path, clip, caplog):
    sink = VideoFileSink(tmp_path / "a.mp4")
    with live(clip, silent_from_s=0.0) as (info, frames):
        sink.open(SinkContext(info, SPEC, *SIZE))
        with caplog.at_level(logging.WARNING):
            for frame in frames:
                put(sink, frame)
        assert "no sound came" in caplog.text
        assert length_s(sink.path, "video") > LENGTH_S - 2.5  # a player can read it already
        sink.close()
    with av.open(str(sink.path)) as file:
        assert [stream.type for stream in file.streams] == ["video"]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_sound_that_steps_back_where_a_stream_came_back_does_no_harm(tmp_path, clip, name):
    sink = VideoFileSink(tmp_path / name)
    with live(clip) as (info, frames):
        sink.open(SinkContext(info, SPEC, *SIZE))
        for index, frame in enumerate(frames):
            put(sink, frame)
            for packet in frame.packets:  # a new connection's sound overlaps the old one's
                if index > len(frames) // 2:
                    packet.pts -= 20 * 1024
                    packet.dts = packet.pts
        sink.close()
    assert length_s(sink.path, "video") == pytest.approx(LENGTH_S, abs=2 / FPS)
    times = [time_s for _, time_s in placed(sink.path)[0]]
    assert times == sorted(times)
    assert times[-1] > LENGTH_S - 1


def test_sound_without_a_description_waits_for_a_packet_that_has_one(tmp_path, clip):
    """As MPEG-TS is joined: a piece of a packet, a header that says nothing, then whole ones."""
    camera = tmp_path / "camera.ts"
    with av.open(str(clip)) as source, av.open(str(camera), "w", format="mpegts") as out:
        ways = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = ways[packet.stream.index]
                out.mux(packet)
    sink = VideoFileSink(tmp_path / "a.mp4")
    with live(camera) as (info, frames):
        (track,) = info.passthrough
        assert not track.codec_context.extradata
        sink.open(SinkContext(info, SPEC, *SIZE))
        first = frames[0]
        broken = []
        for number, data in enumerate((b"\x12" * 300, b"\xff\xf1\xff\xff" + b"\xff" * 300)):
            piece = av.Packet(data)
            piece.stream, piece.time_base = track, Fraction(1, 90_000)
            piece.pts = piece.dts = round(first.pts_s * 90_000) + number
            broken.append(piece)
        put(sink, dataclasses.replace(first, packets=(*broken, *first.packets)))
        for frame in frames[1:]:
            put(sink, frame)
        sink.close()
    moved, _ = offsets(clip, sink.path)
    assert len(moved) > 0.8 * LENGTH_S * 48_000 / 1024
    assert max(moved) - min(moved) < 0.01


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mov", "pcm_mulaw"), ("a.mkv", "aac"), ("a.mp4", "aac")]
)
def test_telephone_sound_is_kept_or_encoded_again(tmp_path, name, codec):
    """Many cameras send G.711, which PyAV puts into .mov alone."""
    telephone = make(tmp_path / "camera.mov", "pcm_mulaw", length_s=4, rate=8000)
    sink = VideoFileSink(tmp_path / name)
    with live(telephone) as (info, frames):
        sink.open(SinkContext(info, SPEC, *SIZE))
        for frame in frames:
            put(sink, frame)
        sink.write_packets(())
        sink.close()
    with av.open(str(sink.path)) as file:
        assert [stream.codec_context.name for stream in file.streams] == ["h264", codec]
    assert length_s(sink.path, "video") == pytest.approx(4, abs=2 / FPS)
    assert length_s(sink.path, "audio") == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("count", [1, 10])
def test_a_recording_that_ends_while_it_waits_for_sound_is_whole(tmp_path, clip, count):
    sink = VideoFileSink(tmp_path / "a.mp4")
    with live(clip, silent_from_s=0.0) as (info, frames):
        sink.open(SinkContext(info, SPEC, *SIZE))
        for frame in frames[:count]:
            put(sink, frame)
        sink.close()
    with av.open(str(sink.path)) as file:
        assert len(list(file.decode(video=0))) == count


def test_segments_of_a_live_source_have_their_sound(tmp_path, clip):
    sink = SegmentedVideoSink(tmp_path / "part_%03d.mp4", SegmentOptions(length_s=Fraction(3)))
    with live(clip) as (info, frames):
        sink.open(SinkContext(info, SPEC, *SIZE))
        for frame in frames:
            put(sink, frame)
        sink.write_packets(())
        sink.close()
    parts = sorted(tmp_path.glob("part_*.mp4"))
    assert len(parts) == 3
    for part in parts[:2]:
        assert length_s(part, "audio") == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("audio", [True, False])
@needs_ffmpeg
def test_rt_seg_records_the_sound_of_a_stream(tmp_path, audio):
    from rtseg.realtime.cli import main

    clip = make(tmp_path / "drive.mp4")
    camera = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    out = tmp_path / "recorded.mp4"
    command = ["--source", camera, "--out", str(out), "--max-frames", "120", "--no-progress"]
    command += ["--view", "input", "--headless"]
    with sending(clip, f"{camera}?pkt_size=1316"):
        assert main([*command, *([] if audio else ["--no-audio"])]) == 0
    with av.open(str(out)) as file:
        kinds = [stream.type for stream in file.streams]
    assert kinds == (["video", "audio"] if audio else ["video"])
    if audio:
        moved, ways = offsets(clip, out)
        assert len(moved) > 50
        assert max(moved) - min(moved) < 0.01
        assert max(abs(way - moved[0]) for way in ways[1:]) < 0.05


def test_what_takes_sound(tmp_path):
    for text in ("a.mp4", str(tmp_path), "-", "rtsp://host/x", "udp://host:1"):
        assert takes_sound(text)
    for text in ("null", "window", "web", "f_%03d.png"):
        assert not takes_sound(text)
