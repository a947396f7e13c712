"""MPEG-TS over UDP with packets lost, and a stream over a slowed link: the loop goes on."""

from __future__ import annotations

import itertools
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import pytest

from rtseg.realtime.profile import Profiler
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from tests.media import make_video
from tests.servers.slow_link import needs_slow_link, slow_link

COMMAND = [sys.executable, "-c", "from rtseg.realtime.cli import command; command()"]
DATAGRAM = 7 * 188


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LossyRelay:
    """Sends a transport stream again and again, in real time, and loses a share of it.

    The losses are drawn from a seeded generator: the same ones each time.
    """

    def __init__(self, path: Path, port: int, share: float) -> None:
        data = path.read_bytes()
        self._datagrams = [data[n : n + DATAGRAM] for n in range(0, len(data), DATAGRAM)]
        with av.open(str(path)) as file:
            self._pause_s = float(file.duration / av.time_base) / len(self._datagrams)
        self._to, self._share = ("127.0.0.1", port), share
        self._draw = random.Random(5)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = self.lost = 0

    def _run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for datagram in itertools.cycle(self._datagrams):
                if self._draw.random() < self._share:
                    self.lost += 1
                else:
                    out.sendto(datagram, self._to)
                    self.sent += 1
                if self._over.wait(self._pause_s):
                    return

    def __enter__(self) -> LossyRelay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds; noise would be better for losses, but each frame has data enough."""
    path = tmp_path_factory.mktemp("ts") / "drive.ts"
    return make_video(path, 100, size=(320, 240), gop=10, format="mpegts")


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_frames_go_on_and_those_that_suffered_say_so(transport_stream: Path, share: float) -> None:
    port = free_udp_port()
    options = SourceOptions(timeout_s=20)
    with (
        LossyRelay(transport_stream, port, share) as relay,
        open_source(f"udp://127.0.0.1:{port}", options) as source,
    ):
        source.observer = Profiler()
        frames = list(itertools.islice(source.frames(), 80))
    assert [frame.index for frame in frames] == list(range(80))
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
    assert {(frame.video.width, frame.video.height) for frame in frames} == {(320, 240)}
    if share:
        assert relay.lost > 3
        assert sum(frame.damaged for frame in frames) > 3
    else:
        # the stream begins anew every four seconds, and one may join in its middle
        assert sum(frame.damaged for frame in frames) <= 3


def test_a_whole_run_over_a_lossy_link_says_what_it_lost(
    transport_stream: Path, tmp_path: Path
) -> None:
    port, profile = free_udp_port(), tmp_path / "profile.json"
    out, log = tmp_path / "seg.mp4", tmp_path / "frames.jsonl"
    with LossyRelay(transport_stream, port, 0.1) as relay:
        process = subprocess.Popen(
            [
                *(*COMMAND, f"udp://127.0.0.1:{port}", str(out), "--no-progress"),
                *("--jsonl", str(log), "--profile", str(profile), "--timeout", "20"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline_s = time.monotonic() + 200
            while not (log.exists() and log.read_text().count("\n") >= 12):
                assert process.poll() is None
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143, said
    assert "Traceback" not in said
    assert "data is missing or damaged" in said
    report = json.loads(profile.read_text())
    assert relay.lost > 0
    assert report["frames_damaged"] > 0
    assert f"{report['frames_damaged']} damaged on the way" in said
    assert report["stalls"] == report["reconnects"] == 0
    with av.open(str(out)) as file:
        assert sum(1 for _ in file.decode(video=0)) == report["frames_out"]


# -- a slowed link -----------------------------------------------------------------------


@needs_slow_link
def test_a_stream_over_a_slowed_link_arrives_late_and_whole(transport_stream: Path) -> None:
    """Over TCP nothing is lost: frames come when the link lets them."""
    kbit = transport_stream.stat().st_size * 8 // 4 // 1000
    with slow_link(kbit // 2) as link:
        with socket.create_server((link.here, 0)) as probe:
            port = probe.getsockname()[1]
        command = [
            *(*link.inside, "ffmpeg", "-loglevel", "error", "-re", "-stream_loop", "-1"),
            *("-i", str(transport_stream), "-c", "copy", "-f", "mpegts"),
            f"tcp://{link.here}:{port}",
        ]
        senders = []
        over = threading.Event()

        def send() -> None:  # until somebody listens
            while not over.wait(0.2):
                senders.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
                senders[-1].wait()

        thread = threading.Thread(target=send)
        thread.start()
        try:
            url = f"tcp://{link.here}:{port}?listen=1"
            with open_source(url, SourceOptions(timeout_s=100)) as source:
                source.observer = Profiler()
                frames = list(itertools.islice(source.frames(), 60))
        finally:
            over.set()
            for sender in senders:
                sender.kill()
            thread.join()
    assert len(frames) == 60
    assert not any(frame.damaged for frame in frames[1:])
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
