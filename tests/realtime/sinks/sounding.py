"""Videos whose packets of sound all differ, and what of them arrives when they are sent.

Which packet of the source a packet is can be told by its bytes, and which picture by its
brightness, so that both can be placed on the source's clock.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.realtime.frame import Rendered
from rtseg.realtime.sinks.network import parse_network
from rtseg.realtime.sinks.publisher import NetworkSink
from rtseg.realtime.sinks.sink import SinkContext
from rtseg.realtime.sources.backoff import Backoff
from rtseg.realtime.sources.resolve import open_source
from tests.media import frame_number, picture
from tests.realtime.sinks.parts import SPEC, labels_of

SIZE = (96, 64)
FPS = 25
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def make(path: Path, codec: str = "aac", length_s: int = 60, rate: int = 48_000) -> Path:
    """Write a video with noise as its sound."""
    layout = "mono" if codec == "pcm_mulaw" else "stereo"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.gop_size = 10
        video.options = {"preset": "ultrafast", "bf": "0"}
        sound = out.add_stream(codec, rate=rate, layout=layout)
        form = sound.codec_context.codec.audio_formats[0].name
        sound.codec_context.format = form
        block = sound.codec_context.frame_size or rate // 50
        resampler = av.AudioResampler(form, layout, rate, frame_size=block)
        random, done = np.random.default_rng(0), 0
        for index in range(length_s * FPS):
            frame = picture(index, SIZE)
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(video.encode(frame))
            while done / rate < index / FPS:
                noise = random.integers(-9000, 9000, (1, 1024)).astype(np.int16)
                heard = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
                heard.sample_rate, heard.time_base = rate, Fraction(1, rate)
                heard.pts = done
                done += 1024
                for part in resampler.resample(heard):
                    out.mux(sound.encode(part))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def bare(data):
    """Return a packet of AAC without an ADTS header."""
    return data[7:] if data[:1] == b"\xff" and data[1] & 0xF6 == 0xF0 else data


def placed(path):
    """Return a file's sound as (bytes, time) and its pictures as (number, time), in seconds."""
    sounds, pictures = [], []
    with av.open(str(path)) as file:
        for packet in file.demux():
            if not packet.size:
                continue
            if packet.stream.type == "audio":
                sounds.append((bare(bytes(packet)), float(packet.pts * packet.time_base)))
                continue
            for frame in packet.decode():
                pictures.append((frame_number(frame), float(frame.pts * frame.time_base)))
    return sounds, pictures


def offsets(source, received):
    """Return how far sound and pictures were each moved in time, in seconds."""
    at = dict(placed(source)[0])
    sounds, pictures = placed(received)
    assert len(at) > 100
    known = [(at[data], time_s) for data, time_s in sounds if data in at]
    assert len(known) >= len(sounds) - 1  # what a muxer adds at the end
    moved = [was_s - time_s for was_s, time_s in known]
    # Numbers repeat every 45 pictures: take the lap that fits the sound best.
    lap_s = 45 / FPS
    ways = [
        (number / FPS - time_s - moved[0] + lap_s / 2) % lap_s - lap_s / 2 + moved[0]
        for number, time_s in pictures
    ]
    return moved, ways


class Playing:
    """Plays a source into sinks as the loop does, in real time, in a thread."""

    def __init__(self, sink, path, options=None, beside=()):
        self.sinks = (sink, *beside)
        self._source = open_source(str(path), options)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        for frame in self._source.frames():
            for sink in self.sinks:
                sink.write(Rendered(frame, labels_of(0), frame.video, {}))
            if self._over.is_set():
                return
        for sink in self.sinks:
            sink.write_packets(self._source.remaining_packets())

    def wait_for(self, condition):
        deadline_s = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline_s
            assert self._thread.is_alive(), "the clip has ended"
            time.sleep(0.05)

    def __enter__(self):
        context = SinkContext(self._source.open(), SPEC, *SIZE)
        for sink in self.sinks:
            sink.open(context)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        for sink in self.sinks:
            sink.close()
        self._source.close()


def to(url, **options):
    return NetworkSink(parse_network(url), backoff=Backoff(0.05, 0.3), **options)


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def receiver(*arguments):
    """Run ffmpeg, which takes a stream and copies it into a file."""
    process = subprocess.Popen(
        ["ffmpeg", "-v", "error", "-y", *map(str, arguments)], stdin=subprocess.DEVNULL
    )
    try:
        yield process
        process.wait(60)
    finally:
        process.kill()
        process.wait()
