"""Network outputs against real receivers: absent, present, killed, frozen, refusing."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.errors import SinkError, UsageError
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.sinks.encode import EncodeOptions
from rtseg.realtime.sinks.live_encoder import LiveEncoder
from rtseg.realtime.sinks.network import parse_network
from rtseg.realtime.sinks.publisher import NetworkSink
from rtseg.realtime.sources.backoff import HOPELESS_TRIES, Backoff
from tests.realtime.parts import BrightnessEngine, GraySource, ListSink, PlainPainter
from tests.realtime.sinks.parts import context, rendered
from tests.servers.running import needs_rtsp_server, rtsp_receiver, tcp_server
from tests.servers.slow_link import needs_slow_link, slow_link

SIZE = (160, 120)
LIVE = {"live": True}
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def relays_of(pid):
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # just gone
            if "rtseg.realtime.sinks.relay" in child.cmdline():
                found.append(child)
    return found


class Feeding:
    """Writes pictures into a sink at 25 frames/s in a thread, as the loop does."""

    def __init__(self, sink, noise=False):
        self.sink = sink
        self.written = 0
        self._noise = noise
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        random = np.random.default_rng(0)
        for item in rendered(100_000, SIZE):
            if self._noise:
                luma = np.frombuffer(item.picture.planes[0], np.uint8)
                luma[:] = random.integers(16, 235, luma.shape, np.uint8)
            self.sink.write(item)
            self.written += 1
            if self._over.wait(0.04):
                return

    def wait_for(self, condition):
        deadline_s = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline_s
            assert self._thread.is_alive()
            time.sleep(0.05)

    def __enter__(self):
        self.sink.open(context(SIZE, **LIVE))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self.sink.close()
        missing = self.written - self.sink.sent - sum(self.sink.dropped.values())
        assert 0 <= missing <= 2  # one on its way and one in the slot when it ended
        assert not [t.name for t in threading.enumerate() if t.name == "rtseg-publish"]
        assert not relays_of(psutil.Process().pid)


def to(url, **options):
    return NetworkSink(parse_network(url), backoff=Backoff(0.05, 0.3), **options)


def decoded(path):
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    assert frames[0].key_frame
    return frames


@contextlib.contextmanager
def ffmpeg_receiver(*arguments):
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


# -- the three protocols ----------------------------------------------------------------


@needs_rtsp_server
def test_rtsp(tmp_path):
    out = tmp_path / "got.h264"
    with rtsp_receiver(out, "user", "s3cret") as (port, _):
        sink = to(f"rtsp://user:s3cret@127.0.0.1:{port}/live")
        with Feeding(sink) as feeding:
            feeding.wait_for(lambda: sink.sent >= 30)
        time.sleep(0.5)
    frames = decoded(out)
    assert sink.sent - 5 <= len(frames) <= sink.sent
    assert (frames[0].width, frames[0].height) == SIZE
    assert "s3cret" not in str(sink.summary())
    assert sink.name == f"rtsp://***@127.0.0.1:{port}/live"
    assert sink.connections == 1


@needs_ffmpeg
def test_rtmp(tmp_path):
    out, port = tmp_path / "got.flv", free_port()
    url = f"rtmp://127.0.0.1:{port}/live/cam"
    receiver = ffmpeg_receiver("-listen", 1, "-i", url, "-c", "copy", out)
    with receiver, Feeding(sink := to(url)) as feeding:
        feeding.wait_for(lambda: sink.sent >= 30)
    assert sink.sent - 3 <= len(decoded(out)) <= sink.sent


@pytest.mark.parametrize(("codec", "name"), [("h264", "h264"), ("h265", "hevc")])
def test_udp_and_a_receiver_that_joins_late(codec, name):
    """Parameter sets and tables come again each second, so it need not see the start."""
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    with Feeding(sink := to(url, options=EncodeOptions(codec=codec))) as feeding:
        feeding.wait_for(lambda: sink.sent >= 40)
        with av.open(url, timeout=30) as received:
            frames = []
            for frame in received.decode(video=0):
                frames.append(frame)
                if len(frames) == 20:
                    break
            assert received.streams.video[0].codec_context.name == name
    assert (frames[0].width, frames[0].height) == SIZE
    times = [frame.pts for frame in frames]
    assert times == sorted(set(times))


# -- receivers that are not as they should be -------------------------------------------


@needs_rtsp_server
def test_a_receiver_that_comes_late_dies_and_comes_back(tmp_path, caplog):
    port = free_port()
    sink = to(f"rtsp://127.0.0.1:{port}/live")
    with Feeding(sink) as feeding:
        feeding.wait_for(lambda: sink.dropped.get("not_connected", 0) > 10)
        assert sink.sent == 0
        with rtsp_receiver(tmp_path / "first.h264", port=port) as (_, server):
            feeding.wait_for(lambda: sink.sent > 20)
            server.kill()
            lost = sink.dropped["not_connected"]
            feeding.wait_for(lambda: sink.dropped["not_connected"] > lost + 10)
        before = sink.sent
        with rtsp_receiver(tmp_path / "second.h264", port=port):
            feeding.wait_for(lambda: sink.sent > before + 20)
    assert sink.connections == 2
    assert len(decoded(tmp_path / "second.h264")) >= 10
    words = [getattr(record, "reason", "") for record in caplog.records]
    assert "CONNECTION_FAILED" in words
    assert "RECONNECTED" in words


@needs_rtsp_server
def test_a_frozen_receiver_costs_pictures_and_comes_back(tmp_path, caplog):
    with rtsp_receiver(tmp_path / "got.h264") as (port, server):
        sink = to(f"rtsp://127.0.0.1:{port}/live", stall_s=3.0)
        with Feeding(sink, noise=True) as feeding:
            feeding.wait_for(lambda: sink.sent > 5)
            server.send_signal(signal.SIGSTOP)
            feeding.wait_for(lambda: sink.dropped.get("slow_receiver", 0) > 5)
            feeding.wait_for(
                lambda: "TIMEOUT" in [getattr(r, "reason", "") for r in caplog.records]
            )
            before = sink.sent
            server.send_signal(signal.SIGCONT)
            feeding.wait_for(lambda: sink.sent > before + 10)
    assert sink.connections >= 2


@needs_slow_link
def test_a_slow_link_costs_pictures_and_no_delay(tmp_path):
    """What does not fit is left out before it is encoded, so what arrives can be decoded."""
    out, port = tmp_path / "got.flv", free_port()
    with slow_link(400) as link:
        url = f"rtmp://{link.there}:{port}/live/cam"
        command = [*link.inside, "ffmpeg", "-v", "error", "-listen", "1", "-i", url, "-c", "copy"]
        receiver = subprocess.Popen([*command, str(out)], stdin=subprocess.DEVNULL)
        try:
            with Feeding(sink := to(url), noise=True) as feeding:
                feeding.wait_for(lambda: sink.dropped.get("slow_receiver", 0) > 10)
                assert sink.connections == 1
            receiver.wait(60)
        finally:
            receiver.kill()
            receiver.wait()
    assert 1 <= len(decoded(out)) <= sink.sent


def test_a_receiver_that_never_answers_is_left_alone_and_tried_again(caplog):
    with tcp_server(lambda _, over: over.wait(60)) as port:
        sink = to(f"rtsp://127.0.0.1:{port}/live", answer_s=0.5)
        with Feeding(sink) as feeding:
            feeding.wait_for(lambda: len(caplog.records) >= 1)
            feeding.wait_for(lambda: feeding.written > 50)
    assert sink.sent == 0
    assert caplog.records[0].reason == "TIMEOUT"
    assert "no answer within 0.5 s" in caplog.text


@needs_rtsp_server
def test_a_refused_password_is_not_tried_for_ever(tmp_path, caplog):
    with rtsp_receiver(tmp_path / "got.h264", "user", "right") as (port, _):
        sink = to(f"rtsp://user:wr0ng@127.0.0.1:{port}/live")
        with Feeding(sink) as feeding:
            feeding.wait_for(lambda: "given up" in caplog.text)
            written = feeding.written
            feeding.wait_for(lambda: feeding.written > written + 10)
    assert "AUTH_FAILED" in caplog.text
    assert f"given up after {HOPELESS_TRIES} tries" in caplog.text
    assert "wr0ng" not in caplog.text
    assert sink.sent == 0


def test_a_name_that_cannot_be_found_is_said_once_in_a_row(caplog):
    sink = to("rtmp://no-such-host.invalid/live/cam")
    with caplog.at_level("WARNING"), Feeding(sink) as feeding:
        feeding.wait_for(lambda: sink.dropped.get("not_connected", 0) > 60)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


def test_other_outputs_and_the_loop_go_on_without_a_receiver():
    """A stalled connection must not hold Python's lock, or nothing would run."""
    with tcp_server(lambda _, over: over.wait(60)) as port:
        network, other = to(f"rtsp://127.0.0.1:{port}/live"), ListSink()
        source, engine = GraySource(60, live=True), BrightnessEngine()
        pipeline = Pipeline(source, engine, PlainPainter(), [network, other])
        pipeline.run()
    assert len(other.items) > 5  # how many depends on how busy the machine is
    assert network.sent == 0


CHILD = """
import sys, time
from tests.realtime.sinks.test_publisher import Feeding, to
sink = to(sys.argv[1])
with Feeding(sink) as feeding:
    feeding.wait_for(lambda: sink.sent > 5)
    print("going", flush=True)
    feeding.wait_for(lambda: False)
"""


def test_nothing_is_left_of_a_run_that_is_killed():
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    run = subprocess.Popen(
        [sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"going\n"
    relays = relays_of(run.pid)
    assert len(relays) == 1
    assert "127.0.0.1" not in " ".join(relays[0].cmdline())  # nor would a password be
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    gone, alive = psutil.wait_procs(relays, 60)
    assert (len(gone), alive) == (1, [])


def test_what_the_sink_refuses():
    with pytest.raises(UsageError, match="sent as h264 or h265"):
        to("udp://127.0.0.1:9", options=EncodeOptions(codec="av1"))
    with pytest.raises(UsageError, match="sent as h264"):
        to("rtmp://host/live/x", options=EncodeOptions(codec="h265"))
    sink = to("udp://127.0.0.1:9")
    (item,) = rendered(1, SIZE)
    with pytest.raises(SinkError, match="Allowed: writing between open and close"):
        sink.write(item)
    sink.close()
    sink.close()


def test_an_encoder_that_fails_in_its_own_way():
    class Broken:
        def encode(self, *_):
            raise av.error.PatchWelcomeError(-1163346256, "Not yet implemented")

    (item,) = rendered(1, SIZE)
    with pytest.raises(SinkError, match="cannot encode as h264"):
        to("udp://127.0.0.1:9")._encoded(Broken(), item, Fraction(0))


# -- what is encoded ---------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "sets"), [("h264", {7, 8}), ("h265", {32, 33, 34})])
@pytest.mark.parametrize("fps", [25, 4])
def test_each_picture_leaves_at_once_and_keyframes_follow_the_clock(codec, sets, fps):
    encoder = LiveEncoder(EncodeOptions(codec=codec), *SIZE, Fraction(25))
    keyframes = []
    for item in rendered(fps * 3, SIZE):
        (packet,) = encoder.encode(item.picture, Fraction(item.frame.index, fps))
        assert packet.pts * packet.time_base == Fraction(item.frame.index, fps)
        if packet.is_keyframe:
            keyframes.append(item.frame.index)
            assert sets <= nal_types(bytes(packet), codec)
    assert keyframes == [0, fps, 2 * fps]


def nal_types(data, codec):
    starts = [part[:1] for part in data.split(b"\0\0\1")[1:]]
    return {(s[0] & 31) if codec == "h264" else (s[0] >> 1 & 63) for s in starts}


def test_a_bit_rate_is_heeded():
    def size(bits):
        encoder = LiveEncoder(EncodeOptions(bitrate_bps=bits), *SIZE, Fraction(25))
        random, total = np.random.default_rng(0), 0
        for item in rendered(50, SIZE):
            luma = np.frombuffer(item.picture.planes[0], np.uint8)
            luma[:] = random.integers(16, 235, luma.shape, np.uint8)
            total += sum(
                p.size for p in encoder.encode(item.picture, Fraction(item.frame.index, 25))
            )
        return total

    assert size(2_000_000) > 1.5 * size(500_000)


# -- addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scheme", "shown"),
    [
        ("rtsp://host/live", "rtsp", "rtsp://host/live"),
        ("RTSP://u:p@[::1]:8554/a", "rtsp", "RTSP://***@[::1]:8554/a"),
        ("rtmp://host:1935/app/key", "rtmp", "rtmp://host:1935/app/***"),
        ("udp://239.1.2.3:5000?ttl=2", "udp", "udp://239.1.2.3:5000?ttl=2"),
    ],
)
def test_addresses(text, scheme, shown):
    address = parse_network(text)
    assert (address.scheme, address.shown) == (scheme, shown)
    assert address.url.startswith(f"{scheme}://")
    assert ("pkt_size=1316" in address.url) == (scheme == "udp")


@pytest.mark.parametrize(
    "text", ["udp://host", "udp://:5000", "rtsp:///live", "rtmp://", "udp://h:99999", "http://h/x"]
)
def test_what_is_no_address(text):
    with pytest.raises(UsageError, match=r"Allowed: rtsp\[s\]://"):
        parse_network(text)


@given(st.text(max_size=30), st.sampled_from(["rtsp://u:hunter2@", "udp://u:hunter2@", "rtmp://"]))
def test_any_text_is_an_address_or_a_usage_error(text, start):
    try:
        address = parse_network(start + text)
        said = address.shown + repr(address)
    except UsageError as error:
        said = str(error)
    assert "hunter2" not in said


@pytest.mark.parametrize("scheme", ["rtsp", "udp"])
def test_every_picture_is_sent_or_counted(scheme):
    """Also those that wait, or are on their way, when the run ends."""
    sink = NetworkSink(parse_network(f"{scheme}://127.0.0.1:{free_port()}/live"))
    with sink:
        sink.open(context((64, 48), live=True))
        for item in rendered(12, (64, 48)):
            sink.write(item)
    counts = sink.counts()
    assert counts.sent + sum(counts.dropped.values()) == 12
