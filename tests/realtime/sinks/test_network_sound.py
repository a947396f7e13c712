"""Sound over the network: the packets are the source's, at their pictures' times."""

from __future__ import annotations

import base64
import signal
import socket
import threading
from fractions import Fraction

import pytest

from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.live_encoder import LiveEncoder
from rtseg.realtime.sinks.network import parse_network
from rtseg.realtime.sinks.relay import Target
from rtseg.realtime.sinks.relay_process import RelayProcess
from rtseg.realtime.sinks.sound import SoundFeed
from rtseg.realtime.sources.resolve import open_source
from tests.media import picture
from tests.realtime.sinks.sounding import (
    FPS,
    SIZE,
    Playing,
    free_port,
    make,
    needs_ffmpeg,
    offsets,
    placed,
    receiver,
    to,
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make(tmp_path_factory.mktemp("clip") / "drive.mp4")


@needs_ffmpeg
@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "udp"])
def test_sound_arrives_as_it_was_at_its_pictures_times(scheme, clip, tmp_path):
    out = tmp_path / "got.mkv"
    port = free_port(socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM)
    url = f"{scheme}://127.0.0.1:{port}" + ("" if scheme == "udp" else "/live/cam")
    listen = {
        "rtsp": ("-rtsp_flags", "listen", "-i", url),
        "rtmp": ("-listen", 1, "-i", url),
        "udp": ("-i", url),
    }[scheme]
    receiving = receiver(*listen, "-c", "copy", "-flush_packets", 1, out)
    with receiving as process, Playing(sink := to(url), clip) as playing:
        playing.wait_for(lambda: out.exists() and out.stat().st_size > 60_000)
        if scheme == "udp":  # nothing there tells the end
            process.send_signal(signal.SIGINT)
    moved, ways = offsets(clip, out)
    assert len(moved) > 60
    assert max(moved) - min(moved) < 0.01
    # not the first one: it opened the connection, before receivers of RTSP know the clock
    assert max(abs(way - moved[0]) for way in ways[1:]) < 0.05
    details = sink.summary().details
    assert details["sound"] == "aac"


@needs_ffmpeg
def test_sound_and_pictures_begin_together_again_after_a_lost_connection(clip, tmp_path):
    first, second, port = tmp_path / "first.mkv", tmp_path / "second.mkv", free_port()
    url = f"rtmp://127.0.0.1:{port}/live/cam"
    with Playing(sink := to(url), clip) as playing:
        with receiver("-listen", 1, "-i", url, "-c", "copy", first) as process:
            playing.wait_for(lambda: sink.sent >= 25)
            process.kill()
        lost = sink.dropped["not_connected"]
        playing.wait_for(lambda: sink.dropped["not_connected"] > lost + 30)
        before = sink.sent
        with receiver("-listen", 1, "-i", url, "-c", "copy", second) as process:
            playing.wait_for(lambda: sink.sent >= before + 50)
            process.send_signal(signal.SIGINT)
    moved, ways = offsets(clip, second)
    assert max(moved) - min(moved) < 0.01
    assert max(abs(way - moved[0]) for way in ways[1:]) < 0.05
    sounds, pictures = placed(second)
    assert abs(sounds[0][1] - pictures[1][1]) < 0.1  # the one before opened the connection


@needs_ffmpeg
def test_no_audio_holds_for_network_outputs(clip, tmp_path):
    out, port = tmp_path / "got.mkv", free_port()
    url = f"rtmp://127.0.0.1:{port}/live/cam"
    sink = to(url, options=EncodeOptions(audio=False))
    with receiver("-listen", 1, "-i", url, "-c", "copy", out), Playing(sink, clip) as playing:
        playing.wait_for(lambda: sink.sent >= 10)
    sounds, pictures = placed(out)
    assert not sounds
    assert len(pictures) >= 5
    assert sink.summary().details["sound"] is None


@pytest.mark.parametrize("codec", ["libmp3lame", "libopus", "pcm_mulaw"])
@needs_ffmpeg
def test_other_codecs_over_rtsp(codec, tmp_path):
    rate = {"libmp3lame": 44_100, "libopus": 48_000, "pcm_mulaw": 8_000}[codec]
    source = make(tmp_path / "drive.mov" if codec == "pcm_mulaw" else tmp_path / "drive.mkv",
                  codec, rate=rate, length_s=30)  # fmt: skip
    out, url = tmp_path / "got.mkv", f"rtsp://127.0.0.1:{free_port()}/live/cam"
    listening = receiver("-rtsp_flags", "listen", "-i", url, "-c", "copy", out)
    with listening, Playing(sink := to(url), source) as playing:
        playing.wait_for(lambda: sink.sent >= 50)
    sounds, pictures = placed(out)
    assert len(pictures) > 40
    assert sounds[-1][1] - sounds[0][1] > 1.5


# -- nothing waits for sound, and it does not pile up -------------------------------------


def test_pictures_do_not_wait_for_sound_that_does_not_come(clip):
    """The muxer is told of a sound stream of which no packet ever comes."""
    with open_source(str(clip)) as source:
        header = SoundFeed(source.open().passthrough[0]).header
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.settimeout(60)
            url = f"udp://127.0.0.1:{listener.getsockname()[1]}"
            address = parse_network(url)
            target = Target(
                address.url, address.shown, address.container, "h264", address.options,
                base64.b64encode(header).decode(),
            )  # fmt: skip
            encoder = LiveEncoder(EncodeOptions(), *SIZE, Fraction(FPS))
            relay = RelayProcess(target, threading.Event(), answer_s=60, stall_s=60)
            arrived = bytearray()
            with relay:
                packets = [
                    packet
                    for index in range(4)
                    for packet in encoder.encode(picture(index, SIZE), Fraction(index, FPS))
                ]
                assert relay.start(packets[0])
                for packet in packets[1:]:
                    relay.send(packet)
                while bytes(packets[2])[-20:] not in bytes(arrived):  # all but the newest
                    arrived += listener.recv(2048)
