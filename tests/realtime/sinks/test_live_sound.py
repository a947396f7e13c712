"""The sound of live streams on its way to network outputs."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess

import av
import pytest

from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Rendered
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.sinks.sink import SinkContext
from rtseg.realtime.sinks.video import VideoFileSink
from rtseg.realtime.sources.backoff import Backoff
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.reconnect import ReconnectingSource
from rtseg.realtime.sources.resolve import open_source, parse_source, source_of
from rtseg.realtime.throttle import FlowOptions
from tests.realtime.parts import BrightnessEngine, ListSink, PlainPainter
from tests.realtime.sinks.parts import SPEC, labels_of
from tests.realtime.sinks.sounding import (
    Playing,
    free_port,
    make,
    needs_ffmpeg,
    offsets,
    receiver,
    to,
)
from tests.servers.running import needs_rtsp_server, rtsp_server

WITH_SOUND = SourceOptions(live_sound=True, timeout_s=60)


@contextlib.contextmanager
def sending(clip, url):
    """Run ffmpeg, which sends a file again and again in real time, as MPEG-TS."""
    command = ["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy"]
    process = subprocess.Popen([*command, "-f", "mpegts", url], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Listening(ListSink):
    """Keeps when sound was heard and came with frames."""

    def __init__(self):
        super().__init__()
        self.heard, self.written = [], []

    def hear(self, packets):
        self.heard += [(p.stream_index, p.pts) for p in packets]

    def write(self, item):
        super().write(item)
        self.written += [(p.stream_index, p.pts) for p in item.frame.packets]
        assert self.written == self.heard[: len(self.written)]


def test_sound_is_heard_before_the_frame_that_it_comes_with_is_written(tmp_path):
    clip = make(tmp_path / "drive.mp4", length_s=2)
    sink = Listening()
    with open_source(str(clip)) as source:
        flow = FlowOptions(stride=3)
        Pipeline(source, BrightnessEngine(), PlainPainter(), [sink], flow=flow).run()
    assert len(sink.written) > 60


@needs_ffmpeg
def test_a_live_streams_sound_goes_on_at_its_pictures_times(tmp_path):
    clip = make(tmp_path / "drive.mp4")
    camera = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    out, url = tmp_path / "got.mkv", f"rtmp://127.0.0.1:{free_port()}/live/cam"
    recording = VideoFileSink(tmp_path / "recorded.mp4")
    with (
        sending(clip, f"{camera}?pkt_size=1316"),
        receiver("-listen", 1, "-i", url, "-c", "copy", out),
        Playing(sink := to(url), camera, WITH_SOUND, [recording]) as playing,
    ):
        playing.wait_for(lambda: sink.sent >= 75)
    moved, ways = offsets(clip, out)
    assert len(moved) > 50
    assert max(moved) - min(moved) < 0.01
    assert max(abs(way - moved[0]) for way in ways[1:]) < 0.05
    with av.open(str(recording.path)) as file:
        assert [stream.type for stream in file.streams] == ["video", "audio"]


def camera_with(sound):
    """Return a pipeline of GStreamer: pictures and sound over RTSP."""
    return (
        "( videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=10/1 "
        "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 "
        "! rtph264pay name=pay0 pt=96 config-interval=1 "
        f"audiotestsrc is-live=true wave=white-noise ! audio/x-raw,rate=8000,channels=1 ! {sound} )"
    )


ALAW = "alawenc ! rtppcmapay name=pay1 pt=8"
MULAW = "mulawenc ! rtppcmupay name=pay1 pt=0"


@needs_rtsp_server
def test_sound_is_read_only_when_an_output_wants_it():
    with rtsp_server(camera_with(ALAW)) as (port, _):
        url = f"rtsp://127.0.0.1:{port}/live"
        with open_source(url, SourceOptions(timeout_s=60)) as source:
            assert source.open().passthrough == ()
        with open_source(url, WITH_SOUND) as source:
            (sound,) = source.open().passthrough
            assert sound.codec_context.name == "pcm_alaw"


@needs_rtsp_server
def test_a_cameras_telephone_sound_is_recorded_into_mp4(tmp_path):
    sink = VideoFileSink(tmp_path / "a.mp4")
    with (
        rtsp_server(camera_with(ALAW)) as (port, _),
        open_source(f"rtsp://127.0.0.1:{port}/live", WITH_SOUND) as source,
    ):
        sink.open(SinkContext(source.open(), SPEC, 160, 120))
        for frame in source.frames():
            sink.write(Rendered(frame, labels_of(0), frame.video, {}))
            if frame.pts_s > 5:
                break
        sink.close()
    with av.open(str(sink.path)) as file:
        assert [stream.codec_context.name for stream in file.streams] == ["h264", "aac"]
        heard_s = sum(frame.samples / frame.rate for frame in file.decode(audio=0))
    assert 3.5 < heard_s < 6


@needs_rtsp_server
def test_pictures_that_stop_are_noticed_while_the_sound_goes_on():
    pipeline = camera_with(ALAW).replace("is-live=true !", "is-live=true num-buffers=20 !", 1)
    with rtsp_server(pipeline) as (port, _):
        options = SourceOptions(live_sound=True, timeout_s=5, reconnect=0)
        with open_source(f"rtsp://127.0.0.1:{port}/live", options) as source:
            source.open()
            with pytest.raises(SourceError, match="data, but no picture within 5 s") as caught:
                list(source.frames())
    assert caught.value.reason == "TIMEOUT"


@needs_rtsp_server
@pytest.mark.parametrize("other", [ALAW, MULAW], ids=["same sound", "other sound"])
def test_sound_after_a_reconnect(other, caplog):
    """It goes on at its pictures' times, or not at all where it is another one."""
    port = free_port()
    source = ReconnectingSource(
        lambda: source_of(
            parse_source(f"rtsp://127.0.0.1:{port}/live"),
            SourceOptions(live_sound=True, timeout_s=20),
        ),
        backoff=Backoff(0.05, 0.2),
    )
    with contextlib.ExitStack() as servers:
        _, server = servers.enter_context(rtsp_server(camera_with(ALAW), port=port))
        with source:
            source.open()
            before = after = 0
            killed_s = None
            for frame in source.frames():
                times = [float(p.pts * p.time_base) for p in frame.packets]
                assert all(abs(time_s - frame.pts_s) < 2 for time_s in times)
                assert all(p.stream_index == 0 for p in frame.packets)
                if killed_s is None:
                    before += len(times)
                    if before > 20:
                        killed_s = frame.pts_s
                        server.send_signal(signal.SIGKILL)
                        server.wait()
                        servers.enter_context(rtsp_server(camera_with(other), port=port))
                elif "RECONNECTED" in caplog.text:
                    after += 1
                    if times and other is ALAW and min(times) > killed_s and after > 20:
                        break
                    if other is MULAW:
                        assert not times
                        if after > 20:
                            break
    said = "the sound changed and is left out" in caplog.text
    assert said == (other is MULAW)
