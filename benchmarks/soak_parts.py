"""What ``benchmarks/soak.py`` puts around the process: servers, a reader, a log, a small disk."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

SERVER = Path(__file__).parents[1] / "tests" / "servers" / "rtsp_server.py"
DEBIAN_PYTHON = "/usr/bin/python3"
DISK_MIB = 512


@dataclass
class Fault:
    """Something that was done to the run, and what the log said of it."""

    kind: str
    what: str
    at_s: float
    lasts_s: float
    reasons: list[str] = field(default_factory=list)
    told: bool = False


@dataclass(frozen=True)
class Sample:
    """The process at one moment; counters are those of its own metrics."""

    at_s: float
    rss_mib: float
    threads: int
    handles: int
    frames_out: float
    slow_output: float
    latency_s: float
    latencies: float


class Server:
    """A real RTSP server that can be frozen, killed and started anew."""

    def __init__(self, pattern: str, size: tuple[int, int], fps: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self._pattern = pattern
        self._fps = fps
        self.size = size
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self, size: tuple[int, int] | None = None) -> None:
        """Start; with another size, if one is given."""
        self.size = size or self.size
        width, height = self.size
        pipeline = (
            f"( videotestsrc is-live=true pattern={self._pattern} "
            f"! video/x-raw,width={width},height={height},framerate={self._fps}/1 "
            "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 "
            "! rtph264pay name=pay0 pt=96 config-interval=1 )"
        )
        self._process = subprocess.Popen(
            [DEBIAN_PYTHON, str(SERVER), str(self.port), pipeline],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("ready"):
            raise SystemExit("the RTSP server did not start (gir1.2-gst-rtsp-server-1.0)")

    def freeze(self, frozen: bool) -> None:
        """Stop the process where it is, or let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None


class Reader:
    """Reads the pipe that ``--out -`` writes; may sleep or go away."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self.awake = threading.Event()
        self.awake.set()
        self.gone = threading.Event()
        self.bytes = 0
        self._thread = threading.Thread(target=self._run, name="pipe")
        self._thread.start()

    def _run(self) -> None:
        while not self.gone.is_set():
            self.awake.wait()
            data = os.read(self._pipe.fileno(), 1 << 16)
            if not data:
                break
            self.bytes += len(data)
        self._pipe.close()

    def go_away(self) -> None:
        """Close the pipe."""
        self.gone.set()
        self.awake.set()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self.awake.set()
        self._thread.join()


class Log:
    """The JSON lines that the process says, with the time of each."""

    def __init__(self, pipe: IO[bytes], path: Path) -> None:
        self._pipe = pipe
        self.path = path
        self.lines: list[tuple[float, dict[str, Any]]] = []
        self.strange: list[str] = []
        self._thread = threading.Thread(target=self._run, name="log")
        self._thread.start()

    def _run(self) -> None:
        with self.path.open("wb") as copy:
            for raw in self._pipe:
                copy.write(raw)
                try:
                    self.lines.append((time.monotonic(), json.loads(raw)))
                except ValueError:
                    self.strange.append(raw.decode(errors="replace").strip())

    def reasons(self, since_s: float, until_s: float, about: str) -> list[str]:
        """Return the reason words between two moments, of lines that contain ``about``."""
        return [
            str(line["reason"])
            for at_s, line in list(self.lines)
            if since_s <= at_s <= until_s
            and line.get("reason")
            and about in str(line.get("message"))
        ]

    def join(self) -> None:
        """Wait until the process has said everything."""
        self._thread.join()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a small file system of its own; yield None where that is not allowed."""
    disk = folder / "disk"
    disk.mkdir()
    options = f"size={DISK_MIB}m"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True
    )
    if made.returncode != 0:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def fill(disk: Path) -> None:
    """Take all the room there is, whoever writes beside."""
    block = b"\0" * (1 << 20)
    with (disk / "filler").open("wb", buffering=0) as file:
        while len(block) >= 4096:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]


def scrape(port: int) -> dict[str, float]:
    """Return the sums over all sources of the process's own counters."""
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    sums: dict[str, float] = {}
    for name, value in re.findall(r"^(rtseg_\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", text, re.M):
        sums[name] = sums.get(name, 0.0) + float(value)
    slow = re.findall(r'^rtseg_frames_dropped_total\{.*"slow_output".*\} ([0-9.e+-]+)$', text, re.M)
    sums["slow_output"] = sum(map(float, slow))
    return sums
