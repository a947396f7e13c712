"""Streams that are stopped, restarted, frozen and changed, on real servers."""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Frame
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sources.backoff import HOPELESS_TRIES, Backoff
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.reconnect import ReconnectingSource
from rtseg.realtime.sources.resolve import open_source, parse_source, source_of
from tests.media import make_images, make_video
from tests.servers.running import (
    TEST_PIPELINE,
    http_server,
    needs_rtsp_server,
    rtsp_server,
    send_then_close,
    tcp_server,
)

QUICK = (0.05, 0.2)
MJPEG_PIPELINE = (
    "( videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=10/1 "
    "! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)


def coming_back(
    url: str, *, attempts: int | None = None, backoff: Backoff | None = None, timeout_s: float = 4
) -> ReconnectingSource:
    options = SourceOptions(timeout_s=timeout_s)
    source = ReconnectingSource(
        lambda: source_of(parse_source(url), options),
        attempts=attempts,
        backoff=backoff or Backoff(*QUICK),
    )
    source.observer = Profiler()
    return source


class Seen(NamedTuple):
    index: int
    pts_s: float
    captured_s: float
    size: tuple[int, int]
    connection: int


class Reader:
    """Reads a source in a thread, as the loop does, and keeps all but the pictures."""

    def __init__(self, source: ReconnectingSource) -> None:
        self.source = source
        assert isinstance(source.observer, Profiler)
        self.counts = source.observer
        self.frames: list[Seen] = []
        self.error: SourceError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            for frame in self.source.frames():
                self.counts.frame_in(frame.captured_ns)
                size = (frame.video.width, frame.video.height)
                connection = self.counts.reconnects
                self.frames.append(
                    Seen(frame.index, frame.pts_s, frame.captured_ns / 1e9, size, connection)
                )
        except SourceError as error:
            self.error = error

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline_s
            assert self.thread.is_alive(), self.error
            time.sleep(0.02)

    def more(self, count: int) -> None:
        """Wait until ``count`` more frames have come."""
        goal = len(self.frames) + count
        self.wait_for(lambda: len(self.frames) >= goal)

    def ends(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive()


@contextmanager
def reading(source: ReconnectingSource) -> Iterator[Reader]:
    with source:
        reader = Reader(source)
        try:
            yield reader
        finally:
            source.close()
            reader.thread.join(60)
            assert not reader.thread.is_alive()


def assert_one_timeline(reader: Reader) -> None:
    """Frames count on, timestamps rise, and a gap is as long as it was by the clock."""
    frames = reader.frames
    assert [frame.index for frame in frames] == list(range(len(frames)))
    for before, after in itertools.pairwise(frames):
        assert after.pts_s > before.pts_s
        if after.connection != before.connection:
            gap_s = after.captured_s - before.captured_s
            assert after.pts_s - before.pts_s == pytest.approx(gap_s, abs=0.001)


# -- how long to wait -------------------------------------------------------------------


@given(
    first_s=st.floats(0.01, 10),
    factor=st.floats(1, 1000),
    draws=st.lists(st.floats(0, 1), min_size=1, max_size=30),
)
def test_waits_double_up_to_the_limit_and_jitter_by_half(
    first_s: float, factor: float, draws: list[float]
) -> None:
    remaining = iter(draws)
    backoff = Backoff(first_s, first_s * factor, lambda: next(remaining))
    for number in range(len(draws)):
        whole_s = min(first_s * factor, first_s * 2**number)
        assert 0.5 * whole_s - 1e-9 <= backoff.next_s() <= whole_s + 1e-9
    backoff.reset()
    remaining = iter([1.0])
    assert backoff.next_s() == pytest.approx(first_s)


@pytest.mark.parametrize("limits", [(0, 1), (-1, 1), (2, 1)])
def test_impossible_waits_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="Received"):
        Backoff(*limits)


def test_which_sources_come_back(tmp_path: Path) -> None:
    assert isinstance(open_source("rtsp://127.0.0.1/x"), ReconnectingSource)
    assert isinstance(open_source("camera7"), ReconnectingSource)
    for text in ("testsrc", str(make_video(tmp_path / "a.mp4", 2))):
        assert not isinstance(open_source(text), ReconnectingSource)
    off = open_source("rtsp://127.0.0.1/x", SourceOptions(reconnect=0))
    assert not isinstance(off, ReconnectingSource)


# -- a real RTSP server -----------------------------------------------------------------


@needs_rtsp_server
def test_a_server_that_restarts_with_another_size_codec_and_rate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ExitStack() as second:
        with rtsp_server() as (port, server):
            source = coming_back(f"rtsp://user:s3cret@127.0.0.1:{port}/live")
            reader = second.enter_context(reading(source))
            reader.more(10)
            server.kill()
            server.wait()
        time.sleep(2)
        second.enter_context(rtsp_server(MJPEG_PIPELINE, port=port))
        reader.more(10)
        assert source.info.width == 320
        source.close()
        reader.ends()
    assert reader.error is None
    assert reader.frames[0].size == (320, 240)
    assert reader.frames[-1].size == (160, 120)
    assert reader.counts.reconnects == 1
    assert_one_timeline(reader)
    said = caplog.text
    assert "reconnecting" in said
    assert re.search(r"RECONNECTED: .*back after .* now 160x120", said)
    assert "s3cret" not in said


@needs_rtsp_server
def test_a_server_that_freezes_and_thaws_is_a_stall() -> None:
    with rtsp_server() as (port, server):
        source = coming_back(f"rtsp://127.0.0.1:{port}/live", timeout_s=2)
        with reading(source) as reader:
            reader.more(5)
            server.send_signal(signal.SIGSTOP)
            try:
                reader.wait_for(lambda: reader.counts.stalls)
                reader.wait_for(lambda: reader.counts.away)
            finally:
                server.send_signal(signal.SIGCONT)
            reader.wait_for(lambda: reader.counts.reconnects)
            reader.more(5)
            assert not reader.counts.away
    assert (reader.counts.stalls, reader.error) == (1, None)
    assert_one_timeline(reader)


@needs_rtsp_server
def test_a_password_that_changed_is_not_tried_for_ever() -> None:
    waits = []
    with ExitStack() as second:
        with rtsp_server(TEST_PIPELINE, "basic", "user", "first") as (port, server):
            source = coming_back(
                f"rtsp://user:first@127.0.0.1:{port}/live",
                backoff=Backoff(*QUICK, lambda: waits.append(1) or 1.0),
            )
            reader = second.enter_context(reading(source))
            reader.more(5)
            server.kill()
            server.wait()
            seen = len(waits)
        second.enter_context(rtsp_server(TEST_PIPELINE, "basic", "user", "other", port=port))
        reader.ends()
    assert reader.error is not None
    assert reader.error.reason == "AUTH_FAILED"
    assert len(waits) - seen >= HOPELESS_TRIES


@needs_rtsp_server
def test_attempts_are_counted() -> None:
    with rtsp_server() as (port, server):
        source = coming_back(f"rtsp://127.0.0.1:{port}/live", attempts=2)
        with reading(source) as reader:
            reader.more(5)
            server.kill()
            reader.ends()
    assert reader.error is not None
    assert reader.error.reason == "CONNECTION_FAILED"


@needs_rtsp_server
def test_close_ends_a_wait_between_two_tries() -> None:
    waiting = threading.Event()
    backoff = Backoff(3600, 3600, lambda: waiting.set() or 1.0)
    with rtsp_server() as (port, server):
        source = coming_back(f"rtsp://127.0.0.1:{port}/live", backoff=backoff)
        with reading(source) as reader:
            reader.more(5)
            server.kill()
            reader.wait_for(waiting.is_set)
            source.close()
            reader.thread.join(60)
            assert not reader.thread.is_alive()
    assert reader.error is None


@needs_rtsp_server
def test_close_ends_a_try_that_gets_no_answer() -> None:
    with rtsp_server() as (port, server):
        trying = threading.Event()
        source = coming_back(
            f"rtsp://127.0.0.1:{port}/live",
            backoff=Backoff(*QUICK, lambda: trying.set() or 1.0),
            timeout_s=3,
        )
        with reading(source) as reader:
            reader.more(5)
            server.send_signal(signal.SIGSTOP)
            reader.wait_for(trying.is_set)
            time.sleep(0.5)  # the next connection is asked for, and nobody answers
            source.close()
            reader.thread.join(5)
            assert not reader.thread.is_alive()
    assert reader.error is None


# -- HTTP and others --------------------------------------------------------------------


def test_motion_jpeg_over_http_that_drops_again_and_again(tmp_path: Path) -> None:
    make_images(tmp_path, 12, pattern="frame_%06d.jpg")
    with (
        http_server(tmp_path) as port,
        reading(coming_back(f"http://127.0.0.1:{port}/stream.mjpg")) as reader,
    ):
        reader.wait_for(lambda: reader.counts.reconnects >= 2)
        reader.more(5)
    assert reader.error is None
    assert reader.counts.stalls == 0
    assert_one_timeline(reader)


def test_many_connections_leave_no_thread_and_no_file_behind(tmp_path: Path) -> None:
    make_images(tmp_path, 6, pattern="frame_%06d.jpg")
    process = psutil.Process()
    with (
        http_server(tmp_path) as port,
        reading(
            coming_back(f"http://127.0.0.1:{port}/stream.mjpg", backoff=Backoff(0.001, 0.002))
        ) as reader,
    ):

        def held(reconnects: int) -> tuple[int, int]:
            """Return the fewest threads and files over the next connections."""
            reader.wait_for(lambda: reader.counts.reconnects >= reconnects)
            goal, seen = reconnects + 5, [(process.num_threads(), process.num_fds())]
            while reader.counts.reconnects < goal:
                seen.append((process.num_threads(), process.num_fds()))
                time.sleep(0.001)
            return min(threads for threads, _ in seen), min(files for _, files in seen)

        early, late = held(3), held(25)
    # A thread or file kept from each of some twenty connections would be twenty more.
    assert late[0] <= early[0] + 3
    assert late[1] <= early[1] + 3
    assert reader.error is None


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs FFmpeg's program")
def test_a_udp_sender_that_pauses_and_returns() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *("ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc=s=160x120:r=25"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10"),
        *("-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"),
    ]
    with subprocess.Popen(command) as first:
        try:
            source = coming_back(f"udp://127.0.0.1:{port}", timeout_s=3)
            with reading(source) as reader:
                reader.more(10)
                first.kill()
                reader.wait_for(lambda: reader.counts.stalls)
                with subprocess.Popen(command) as second:
                    try:
                        reader.wait_for(lambda: reader.counts.reconnects)
                        reader.more(10)
                    finally:
                        second.kill()
        finally:
            first.kill()
    assert reader.error is None
    assert_one_timeline(reader)


@pytest.mark.parametrize(("place", "reason"), [("401", "AUTH_FAILED"), ("404", "NOT_FOUND")])
def test_a_first_connection_that_fails_is_an_error_at_once(
    tmp_path: Path, place: str, reason: str
) -> None:
    with http_server(tmp_path) as port, pytest.raises(SourceError) as caught:
        coming_back(f"http://127.0.0.1:{port}/{place}", backoff=Backoff(3600, 3600)).open()
    assert caught.value.reason == reason


def test_a_file_behind_http_is_read_once_with_its_sound(tmp_path: Path) -> None:
    make_video(tmp_path / "drive.mp4", 20, audio=True)
    with http_server(tmp_path) as port, coming_back(f"http://127.0.0.1:{port}/drive.mp4") as source:
        frames: list[Frame] = list(source.frames())
        assert len(frames) == 20
        assert source.info.time_base == frames[0].time_base
        assert sum(len(frame.packets) for frame in frames) + len(source.remaining_packets()) > 20


def test_a_connection_that_only_ever_breaks_waits_longer_each_time(tmp_path: Path) -> None:
    data = make_video(tmp_path / "drive.ts", 10, gop=5, format="mpegts").read_bytes()
    waits: list[float] = []

    class Noted(Backoff):
        def next_s(self) -> float:
            waits.append(super().next_s())
            return waits[-1]

    with tcp_server(send_then_close(data)) as port:
        source = coming_back(f"tcp://127.0.0.1:{port}", backoff=Noted(0.01, 10, lambda: 1.0))
        with reading(source) as reader:
            reader.wait_for(lambda: reader.counts.reconnects >= 4)
    assert waits == sorted(waits)
    assert waits[3] == pytest.approx(8 * waits[0])
    assert_one_timeline(reader)


@needs_rtsp_server
def test_a_patient_source_waits_for_a_server_that_is_not_there_yet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    url = f"rtsp://127.0.0.1:{port}/live"
    source = ReconnectingSource(
        lambda: source_of(parse_source(url), SourceOptions(timeout_s=4)),
        backoff=Backoff(*QUICK),
        patient=True,
    )
    source.observer = counts = Profiler()
    opened = threading.Event()

    def wait() -> None:
        source.open()
        opened.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not opened.wait(0.5)
    with rtsp_server(port=port):
        assert opened.wait(30)
        assert source.info.width == 320
        source.close()
    thread.join()
    assert counts.reconnects == 0


def test_a_patient_source_can_be_closed_while_it_waits() -> None:
    url = "rtsp://127.0.0.1:9/live"
    source = ReconnectingSource(lambda: source_of(parse_source(url), SourceOptions()), patient=True)
    timer = threading.Timer(0.3, source.close)
    timer.start()
    with pytest.raises(SourceError) as caught:
        source.open()
    timer.join()
    assert caught.value.reason == "CLOSED"


def test_a_patient_source_gives_up_where_it_is_told_to() -> None:
    source = ReconnectingSource(
        lambda: source_of(parse_source("rtsp://127.0.0.1:9/live"), SourceOptions()),
        attempts=2,
        backoff=Backoff(*QUICK),
        patient=True,
    )
    with pytest.raises(SourceError) as caught:
        source.open()
    assert caught.value.reason == "CONNECTION_FAILED"
