"""What a service manager hears, on a real datagram socket."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtseg.realtime.frame import now_ns
from rtseg.realtime.profile import Profiler
from rtseg.realtime.service import Notifier, Service, Watch, watchdog_s

COMMAND = [sys.executable, "-c", "from rtseg.realtime.cli import command; command()"]


class Manager:
    """The other end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.messages: list[str] = []

    def listen(self, seconds: float) -> None:
        """Take what comes within ``seconds``."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            with contextlib.suppress(TimeoutError):
                self.messages.append(self._socket.recv(4096).decode())

    def wait_for(self, line: str, count: int = 1) -> None:
        deadline_s = time.monotonic() + 120
        while self.lines().count(line) < count:
            assert time.monotonic() < deadline_s, self.messages
            self.listen(0.1)

    def lines(self) -> list[str]:
        return [line for message in self.messages for line in message.split("\n")]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@rtseg-test-{os.getpid()}"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    listening = Manager(address)
    yield listening
    listening.close()


def frame(profiler: Profiler) -> None:
    now = now_ns()
    profiler.frame_in(now)
    profiler.frame_out(index=0, pts_s=0, captured_ns=now, presented_ns=now, stages_ms={})


def test_one_message_has_one_value_a_line(manager: Manager, address: str) -> None:
    notifier = Notifier(address)
    notifier.send("READY=1", "STATUS=two\nlines")
    notifier.close()
    manager.listen(0.05)
    assert manager.messages == ["READY=1\nSTATUS=two lines"]


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.send("READY=1")
    notifier.close()


def test_ready_with_the_first_frame_and_stopping_at_the_end(manager: Manager, address: str) -> None:
    profiler = Profiler()
    with Service({"cam": profiler}, lambda: False, {"NOTIFY_SOCKET": address}):
        manager.listen(1.5)
        assert not any("READY" in line or "WATCHDOG" in line for line in manager.lines())
        frame(profiler)
        manager.wait_for("READY=1")
    manager.wait_for("STOPPING=1")
    assert manager.lines().count("READY=1") == manager.lines().count("STOPPING=1") == 1
    assert any("1 frames" in line for line in manager.lines())


def test_the_watchdog_is_fed_only_while_frames_come_out(
    manager: Manager, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    profiler = Profiler()
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
    with Service({"cam": profiler}, lambda: False, environment) as service:
        frame(profiler)
        manager.wait_for("WATCHDOG=1")
        manager.wait_for("STATUS=cam: no frame came out for", 0)
        until(manager, lambda: "HUNG" in caplog.text)
        manager.listen(0.1)
        fed = manager.lines().count("WATCHDOG=1")
        profiler.frame_in(now_ns())  # frames that go in and do not come out are no life
        manager.listen(1.0)
        assert manager.lines().count("WATCHDOG=1") == fed
        frame(profiler)
        manager.wait_for("WATCHDOG=1", fed + 1)
        profiler.lost()  # the source is gone, and that was noticed
        manager.wait_for("WATCHDOG=1", fed + 12)
        profiler.frame_in(now_ns())
        service.paused = lambda: True
        manager.wait_for("WATCHDOG=1", fed + 24)


def until(manager: Manager, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline_s
        manager.listen(0.1)


def test_of_several_sources_each_must_go_on() -> None:
    one, two = Profiler(), Profiler()
    watch = Watch({"one": one, "two": two})
    assert not watch.started()
    frame(one)
    assert not watch.started()
    two.lost()
    assert watch.started()
    assert watch.hung(0.05) is None
    time.sleep(0.1)
    said = watch.hung(0.05)
    assert said is not None
    assert said.startswith("one: no frame came out for")
    frame(one)
    assert watch.hung(0.05) is None
    frame(two)  # back
    time.sleep(0.1)
    frame(one)
    assert watch.hung(0.05) is None  # the first look at a source that is back
    time.sleep(0.1)
    frame(one)
    said = watch.hung(0.05)
    assert said is not None
    assert said.startswith("two")
    two.ended = "TIMEOUT"
    assert watch.hung(0.05) is None
    assert watch.status().startswith("one: ")
    assert watch.status().endswith("two: ended: TIMEOUT")


def test_limits() -> None:
    assert watchdog_s({}) is None
    assert watchdog_s({"WATCHDOG_USEC": "0"}) is None
    assert watchdog_s({"WATCHDOG_USEC": "x"}) is None
    assert watchdog_s({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}) == 2.5
    assert watchdog_s({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}) is None


def test_without_a_manager_there_is_no_thread() -> None:
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        with Service({}, lambda: False, environment) as service:
            assert service._thread is None


@pytest.mark.parametrize("sources", [1, 2])
def test_a_whole_run(tmp_path: Path, sources: int) -> None:
    path = str(tmp_path / "notify")
    manager = Manager(path)
    process = subprocess.Popen(
        [*COMMAND, *["--source", "testsrc"] * sources, "--out", "null", "-q"],
        env={**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000000"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        manager.wait_for("READY=1")
        manager.wait_for("WATCHDOG=1", 2)
        process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        manager.close()
    assert process.returncode == 143, said
    assert any("frames/s" in line for line in manager.lines())
