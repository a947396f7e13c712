"""Sound that a container cannot hold is encoded again, and heard when it was."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from rtseg.realtime.frame import Rendered
from rtseg.realtime.sinks.adts import is_adts, likely_config
from rtseg.realtime.sinks.recoded_sound import RecodedSound
from rtseg.realtime.sinks.segments import SegmentedVideoSink, SegmentOptions
from rtseg.realtime.sinks.sink import SinkContext
from rtseg.realtime.sinks.video import VideoFileSink
from rtseg.realtime.sources import templates
from rtseg.realtime.sources.resolve import open_source
from tests.media import picture
from tests.realtime.sinks.parts import SPEC, labels_of
from tests.realtime.sinks.sounding import FPS, SIZE

LENGTH_S = 6
BURSTS_S = (1.0, 2.5, 4.2)
BURST_S = 0.3


def make(path, codec="pcm_mulaw", rate=8000, layout="mono"):
    """Write a video that is silent but for bursts of a tone."""
    times_s = np.arange(LENGTH_S * rate) / rate
    loud = sum((times_s >= at) & (times_s < at + BURST_S) for at in BURSTS_S)
    tone = (12000 * loud * np.sin(2 * np.pi * 440 * times_s)).astype(np.int16)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.options = {"preset": "ultrafast", "bf": "0"}
        sound = out.add_stream(codec, rate=rate, layout=layout)
        sound.codec_context.format = sound.codec_context.codec.audio_formats[0].name
        sound.codec_context.bit_rate = 128_000
        channels = 1 if layout == "mono" else 2
        block = rate // FPS
        for index in range(LENGTH_S * FPS):
            frame = picture(index, SIZE)
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(video.encode(frame))
            part = np.repeat(tone[index * block : (index + 1) * block], channels)
            heard = av.AudioFrame.from_ndarray(part[None], format="s16", layout=layout)
            heard.sample_rate, heard.time_base, heard.pts = rate, Fraction(1, rate), index * block
            out.mux(sound.encode(heard))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def bursts(path):
    """Return when what is loud begins and how long it lasts, in seconds, as a player hears it."""
    times, levels = [], []
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(np.float32)).reshape(-1)
            scale = 1.0 if frame.format.name.startswith("flt") else 1 / 32768
            if frame.format.is_packed:
                samples = samples.reshape(-1, frame.layout.nb_channels).max(1)
            else:
                samples = samples.reshape(frame.layout.nb_channels, -1).max(0)
            times.append(float(frame.pts * frame.time_base) + np.arange(len(samples)) / frame.rate)
            levels.append(samples * scale)
    heard = np.concatenate(times)[np.concatenate(levels) > 0.1]
    assert len(heard), "silence"
    gaps = np.flatnonzero(np.diff(heard) > 0.2)
    begins = heard[np.r_[0, gaps + 1]]
    ends = heard[np.r_[gaps, len(heard) - 1]]
    return list(zip(begins, ends - begins, strict=True))


def record(clip, sink, keep=lambda packet: True):
    with open_source(str(clip)) as source:
        sink.open(SinkContext(source.open(), SPEC, *SIZE))
        for frame in source.frames():
            packets = tuple(filter(keep, frame.packets))
            frame = dataclasses.replace(frame, packets=packets)
            sink.write(Rendered(frame, labels_of(0), frame.video, {}))
        sink.write_packets(tuple(filter(keep, source.remaining_packets())))
        sink.close()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    ("codec", "rate", "layout"),
    [
        ("pcm_mulaw", 8000, "mono"),
        ("pcm_alaw", 8000, "mono"),
        ("pcm_alaw", 48000, "stereo"),
    ],
)
def test_it_is_heard_when_it_was(tmp_path, name, codec, rate, layout):
    sink = VideoFileSink(tmp_path / name)
    record(make(tmp_path / "clip.mov", codec, rate, layout), sink)
    with av.open(str(sink.path)) as file:
        (sound,) = file.streams.audio
        assert (sound.codec_context.name, sound.codec_context.sample_rate) == ("aac", rate)
    found = bursts(sink.path)
    assert len(found) == len(BURSTS_S)
    for (begin_s, length_s), wanted_s in zip(found, BURSTS_S, strict=True):
        assert begin_s == pytest.approx(wanted_s, abs=0.03)
        assert length_s == pytest.approx(BURST_S, abs=0.06)


@pytest.mark.parametrize(
    ("clip", "codec", "rate", "out"),
    [
        ("clip.asf", "wmav2", 44100, "a.mp4"),  # what a block holds is said beside it
        ("clip.avi", "adpcm_ima_wav", 44100, "a.mp4"),
        ("clip.mkv", "libopus", 48000, "a.mov"),  # MOV takes these two at first
        ("clip.mkv", "flac", 44100, "a.mov"),
    ],
)
def test_every_codec_is_decoded(tmp_path, clip, codec, rate, out):
    sink = VideoFileSink(tmp_path / out)
    record(make(tmp_path / clip, codec, rate, "stereo"), sink)
    with av.open(str(sink.path)) as file:
        assert [track.codec_context.name for track in file.streams.audio] == ["aac"]
    begins = [begin_s for begin_s, _ in bursts(sink.path)]
    assert begins == pytest.approx(BURSTS_S, abs=0.06)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_aac_of_a_transport_stream_is_copied(tmp_path, name):
    """Its packets carry headers that these files do not."""
    clip = make(tmp_path / "clip.ts", "aac", 44100)
    with av.open(str(clip)) as file:
        sent = sum(bool(packet.size) for packet in file.demux(audio=0))
    sink = VideoFileSink(tmp_path / name)
    record(clip, sink)
    with av.open(str(sink.path)) as file:
        (sound,) = file.streams.audio
        assert (sound.codec_context.name, sound.codec_context.sample_rate) == ("aac", 44100)
        copied = [bytes(packet) for packet in file.demux(audio=0) if packet.size]
    assert len(copied) == sent
    assert not any(map(is_adts, copied))
    begins = [begin_s for begin_s, _ in bursts(sink.path)]
    assert begins == pytest.approx(BURSTS_S, abs=0.06)


@pytest.mark.parametrize(
    ("profile", "rate_hz", "channels", "config"),
    [
        ("LC", 44100, 2, "1210"),
        (None, 48000, 1, "1188"),
        ("HE-AAC", 48000, 2, "1310"),  # decoded at 48 kHz, its core runs at 24
        ("HE-AACv2", 48000, 2, "1308"),
        ("LC", 44100, 8, ""),
        ("LC", 12345, 2, ""),
    ],
)
def test_what_is_said_of_aac_before_its_first_packet(profile, rate_hz, channels, config):
    context = SimpleNamespace(profile=profile, sample_rate=rate_hz, channels=channels)
    assert likely_config(SimpleNamespace(codec_context=context)).hex() == config


def test_sound_without_a_decoder_is_left_out_and_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(templates, "write_template", refuse)
    sink = VideoFileSink(tmp_path / "a.mp4")
    record(make(tmp_path / "clip.mov"), sink)
    with av.open(str(sink.path)) as file:
        assert not file.streams.audio
        assert file.streams.video
    assert "left out audio track 1 (pcm_mulaw): it cannot be decoded" in caplog.text


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_sound_of_an_unknown_codec_is_left_out_and_said(tmp_path, name, caplog):
    clip = make(tmp_path / "clip.mkv", "aac", 44100)
    clip.write_bytes(clip.read_bytes().replace(b"A_AAC", b"A_XYZ"))
    sink = VideoFileSink(tmp_path / name)
    record(clip, sink)
    with av.open(str(sink.path)) as file:
        assert not file.streams.audio
    assert "left out audio track 1 (unknown codec)" in caplog.text


def refuse(*args, **options):
    raise ValueError("no such codec")


def test_a_gap_stays_a_gap(tmp_path):
    """As where a stream was away: what comes after is heard at its own time."""

    def keep(packet):
        return not 1.5 < packet.pts * packet.time_base < 3.7

    sink = VideoFileSink(tmp_path / "a.mp4")
    record(make(tmp_path / "clip.mov"), sink, keep)
    found = bursts(sink.path)
    assert [begin_s for begin_s, _ in found] == pytest.approx([1.0, 4.2], abs=0.03)


def test_each_segment_has_its_part(tmp_path):
    sink = SegmentedVideoSink(tmp_path / "part_%03d.mp4", SegmentOptions(length_s=Fraction(2)))
    record(make(tmp_path / "clip.mov"), sink)
    heard = [bursts(part) for part in sorted(tmp_path.glob("part_*.mp4"))]
    begins = [begin_s + 2 * number for number, found in enumerate(heard) for begin_s, _ in found]
    assert begins == pytest.approx(BURSTS_S, abs=0.05)


def test_damaged_sound_is_left_out(tmp_path):
    clip = make(tmp_path / "clip.mp4", "aac", 44100)
    with av.open(str(clip)) as source, av.open(str(tmp_path / "a.mkv"), "w") as out:
        track = RecodedSound(out, source.streams.audio[0])
        made = 0
        for packet in source.demux(audio=0):
            if packet.size:
                damaged = av.Packet(b"\xff" * packet.size)
                damaged.pts, damaged.time_base = packet.pts, packet.time_base
                assert track.recode(damaged, Fraction(0)) == []
                made += len(track.recode(packet, Fraction(0)))
        made += len(track.flush())
    assert made > 0.9 * LENGTH_S * 44100 / 1024
