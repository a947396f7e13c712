"""Live sources that end after a while."""

from __future__ import annotations

import signal
import threading

import pytest

from rtseg.realtime.errors import SourceError
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sources.options import SourceOptions
from rtseg.realtime.sources.resolve import open_source
from tests.servers.running import TEST_PIPELINE, needs_rtsp_server, rtsp_server

LIVE = "lavfi:testsrc=rate=20:size=64x48,realtime"


def test_a_live_source_ends_by_the_clock() -> None:
    with open_source(LIVE, SourceOptions(duration_s=0.5)) as source:
        assert source.info.live
        frames = list(source.frames())
    assert 2 <= len(frames) <= 11
    assert frames[-1].captured_ns - frames[0].captured_ns < 0.5e9


def test_it_ends_without_its_reader_being_there() -> None:
    """Whoever stops reading leaves no thread behind."""

    def timers() -> int:
        return sum(isinstance(thread, threading.Timer) for thread in threading.enumerate())

    assert timers() == 0
    with open_source(LIVE, SourceOptions(duration_s=60.0)) as source:
        frames = source.frames()
        assert next(frames).index == 0
        assert timers() == 1
    frames.close()  # type: ignore[attr-defined]
    assert timers() == 0


def test_its_errors_pass() -> None:
    source = open_source("rtsp://127.0.0.1:1/nobody", SourceOptions(duration_s=1.0, reconnect=0))
    with pytest.raises(SourceError) as caught:
        source.open()
    assert caught.value.reason == "CONNECTION_FAILED"


@needs_rtsp_server
def test_a_stream_that_hangs_ends_on_time_too() -> None:
    """The frozen server would be waited for, and tried again, for ever."""
    counts = Profiler()
    with rtsp_server(TEST_PIPELINE) as (port, server):
        options = SourceOptions(duration_s=6.0, timeout_s=2.0)
        with open_source(f"rtsp://127.0.0.1:{port}/live", options) as source:
            source.observer = counts
            seen = 0
            for _ in source.frames():
                seen += 1
                if seen == 3:
                    server.send_signal(signal.SIGSTOP)
        server.send_signal(signal.SIGCONT)
    assert seen >= 3
    assert counts.stalls >= 1
    assert counts.reconnects == 0
