"""Leaves the real ``rt-seg`` alone for a while, breaks what is around it, and judges the rest.

Two RTSP servers and a generated picture into one process, all in one picture to a file, to a
pipe and to nothing, with JSON lines. On a seeded schedule a server is frozen, killed and
restarted, restarted with another size, the pipe's reader sleeps; once the disk fills up, once
the pipe's reader goes away. Memory, threads and file handles of the process and its own
metrics are sampled every few seconds.

    python benchmarks/soak.py --minutes 30 [--seed 1] [--json soak.json] [-- options of rt-seg]

Ends with 0 where everything held. Needs Debian's GStreamer RTSP server
(``gir1.2-gst-rtsp-server-1.0``), Linux, and the right to mount (for the disk that fills up;
without it that fault is left out, and said).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
from common import machine, rt_seg

SERVER = Path(__file__).parents[1] / "tests" / "servers" / "rtsp_server.py"
DEBIAN_PYTHON = "/usr/bin/python3"
TIMEOUT_S = 5
DISK_MIB = 512
SAMPLE_S = 5.0
FLAT = 0.02

LASTS_S = {"stall": (12, 18), "kill": (2, 6), "size": (2, 6), "slow sink": (15, 20)}

LOST = ("TIMEOUT", "CONNECTION_FAILED", "ENDED", "NOT_FOUND")
EXPECTED = {
    "stall": (LOST, "RECONNECTED"),
    "kill": (LOST, "RECONNECTED"),
    "size": (LOST, "RECONNECTED"),
    "slow sink": (("SLOW_OUTPUT",), "OUTPUT_BACK"),
    "disk full": (("NO_SPACE",), None),
    "sink dies": (("BROKEN_PIPE",), None),
}
"""Of each fault: the reasons of which one is in the log, and the one that tells its end."""


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


def schedule(rng: random.Random, seconds: float, disk: bool) -> list[Fault]:
    """Return faults in order of time; the first minute and the last are left in peace."""
    faults: list[Fault] = []
    at_s = 60.0
    kinds = ["stall", "kill", "size", "slow sink"]
    while at_s < seconds - 75:
        if not kinds:
            kinds = ["stall", "kill", "size", "slow sink"]
        kind = kinds.pop(rng.randrange(len(kinds)))
        lasts_s = rng.uniform(*LASTS_S[kind])
        what = "pipe" if kind == "slow sink" else rng.choice(("one", "two"))
        if kind != "slow sink" or at_s < 0.8 * seconds:  # later the pipe's reader is gone
            faults.append(Fault(kind, what, at_s, lasts_s))
        at_s += lasts_s + rng.uniform(35, 50)
    if disk:
        faults.append(Fault("disk full", "disk", 0.70 * seconds, 0.0))
    faults.append(Fault("sink dies", "pipe", 0.85 * seconds, 0.0))
    return sorted(faults, key=lambda fault: fault.at_s)


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace, folder: Path, disk: Path | None) -> None:
        self._options = options
        self._folder = folder
        self._disk = disk
        self.seconds = options.minutes * 60
        self.faults = schedule(random.Random(options.seed), self.seconds, disk is not None)
        self.samples: list[Sample] = []
        self.output = (disk or folder) / "grid.mp4"
        self.lines = folder / "frames.jsonl"
        self.profile = folder / "profile.json"
        self.verdicts: list[tuple[str, bool, str]] = []

    def run(self) -> None:
        """Run, break things, and judge."""
        servers = {"one": Server("smpte", (640, 360), 15), "two": Server("ball", (320, 240), 25)}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = int(listener.getsockname()[1])
        command = [
            rt_seg(),
            *(word for s in servers.values() for word in ("--source", url_of(s))),
            *("--source", "lavfi:testsrc2=size=640x360:rate=10,realtime"),
            *("--layout", "grid", "--out", str(self.output), "--out", "-", "--out", "null"),
            *("--jsonl", str(self.lines), "--profile", str(self.profile)),
            *("--timeout", str(TIMEOUT_S), "--metrics-port", str(port)),
            *("--log-format", "json", "-v", "--no-progress", *self._options.rest),
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self._folder
        )
        assert process.stdout is not None
        assert process.stderr is not None
        log, reader = Log(process.stderr, self._folder / "log"), Reader(process.stdout)
        begun_s = time.monotonic()
        breaker = threading.Thread(
            target=self._break, args=(begun_s, servers, reader, process), name="faults"
        )
        breaker.start()
        try:
            self._watch(process, port, begun_s)
        finally:
            alive = process.poll() is None
            breaker_done_s = time.monotonic()
            if alive:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
                ended_in_time = True
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                ended_in_time = False
            breaker.join()
            reader.go_away()
            reader.join()
            log.join()
            for server in servers.values():
                server.freeze(False)
                server.kill()
        self._judge(process.returncode, alive, ended_in_time, log, begun_s, breaker_done_s)

    def _watch(self, process: subprocess.Popen[bytes], port: int, begun_s: float) -> None:
        watched = psutil.Process(process.pid)
        while process.poll() is None and time.monotonic() - begun_s < self.seconds:
            time.sleep(SAMPLE_S)
            try:
                counters = scrape(port)
                sample = Sample(
                    time.monotonic() - begun_s,
                    watched.memory_info().rss / 2**20,
                    watched.num_threads(),
                    watched.num_fds(),
                    counters.get("rtseg_frames_out_total", 0.0),
                    counters["slow_output"],
                    counters.get("rtseg_latency_seconds_sum", 0.0),
                    counters.get("rtseg_latency_seconds_count", 0.0),
                )
            except (OSError, psutil.Error):
                continue
            self.samples.append(sample)
            if len(self.samples) % 12 == 0:
                print(
                    f"{sample.at_s:6.0f} s  {sample.rss_mib:6.1f} MiB  {sample.threads} threads  "
                    f"{sample.handles} handles  {sample.frames_out:.0f} frames",
                    flush=True,
                )

    def _break(
        self,
        begun_s: float,
        servers: dict[str, Server],
        reader: Reader,
        process: subprocess.Popen[bytes],
    ) -> None:
        for fault in self.faults:
            while time.monotonic() - begun_s < fault.at_s:
                if process.poll() is not None:
                    return
                time.sleep(0.2)
            fault.at_s = time.monotonic() - begun_s
            print(f"{fault.at_s:6.0f} s  {fault.kind} ({fault.what})", flush=True)
            if fault.kind == "disk full" and self._disk is not None:
                fill(self._disk)
            elif fault.kind == "sink dies":
                reader.go_away()
            elif fault.kind == "slow sink":
                reader.awake.clear()
                time.sleep(fault.lasts_s)
                reader.awake.set()
            else:
                server = servers[fault.what]
                if fault.kind == "stall":
                    server.freeze(True)
                    time.sleep(fault.lasts_s)
                    server.freeze(False)
                else:
                    server.kill()
                    time.sleep(fault.lasts_s)
                    sizes = [(320, 240), (480, 270), (640, 360)]
                    other = sizes[(sizes.index(server.size) + 1) % 3]
                    server.start(other if fault.kind == "size" else None)
            if fault.what in servers:
                fault.what = str(servers[fault.what].port)

    # -- judging ----------------------------------------------------------------------

    def _verdict(self, name: str, held: bool, text: str) -> None:
        self.verdicts.append((name, held, text))

    def _judge(
        self,
        code: int,
        alive: bool,
        in_time: bool,
        log: Log,
        begun_s: float,
        ended_s: float,
    ) -> None:
        self._verdict(
            "no crash, no hang",
            alive and in_time and code in (1, 143) and not log.strange,
            f"alive to the end: {alive}; ended within 60 s: {in_time}; exit code {code}; "
            f"{len(log.strange)} lines that are no JSON {log.strange[:2] or ''}",
        )
        if not self.samples:
            self._verdict("samples", False, "none")
            return
        self._judge_memory()
        for name in ("threads", "handles"):
            early = self._middle(name, 0.15, 0.40)
            late = self._middle(name, 0.75, 1.0)
            self._verdict(f"no leaked {name}", late <= early, f"{early:.0f} → {late:.0f}")
        self._judge_faults(log, begun_s, ended_s)
        self._judge_latency()
        self._judge_outputs()

    def _values(self, name: str, first: float, last: float) -> list[float]:
        low_s, high_s = first * self.seconds, last * self.seconds
        return [getattr(s, name) for s in self.samples if low_s <= s.at_s <= high_s]

    def _middle(self, name: str, first: float, last: float) -> float:
        return statistics.median(self._values(name, first, last) or [float("nan")])

    def _judge_memory(self) -> None:
        early, late = self._middle("rss_mib", 0.20, 0.45), self._middle("rss_mib", 0.75, 1.0)
        growth = late / early - 1
        most = max(sample.rss_mib for sample in self.samples)
        self._verdict(
            "memory flat within 2 %",
            growth <= FLAT,
            f"{early:.1f} → {late:.1f} MiB ({growth:+.1%}; medians from 20 to 45 % and from "
            f"75 % of the time on); at most {most:.1f} MiB",
        )

    def _judge_faults(self, log: Log, begun_s: float, ended_s: float) -> None:
        untold = []
        for number, fault in enumerate(self.faults):
            since_s = begun_s + fault.at_s
            later = [f for f in self.faults[number + 1 :] if f.what == fault.what]
            until_s = begun_s + later[0].at_s if later else ended_s + 60
            words, end = EXPECTED[fault.kind]
            about = fault.what if fault.what.isdigit() else ""
            fault.reasons = log.reasons(since_s, until_s, about)
            begun = any(word in fault.reasons for word in words)
            fault.told = begun and (end is None or end in fault.reasons)
            if not fault.told:
                untold.append(f"{fault.kind} at {fault.at_s:.0f} s ({fault.reasons})")
        kinds = {kind: sum(f.kind == kind for f in self.faults) for kind in EXPECTED}
        text = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        self._verdict(
            "every fault told with its reason",
            not untold,
            f"{len(self.faults)} faults ({text}); untold: {', '.join(untold) or 'none'}",
        )

    def _judge_latency(self) -> None:
        thirds = []
        for part in range(3):
            inside = [
                s for s in self.samples if part / 3 <= s.at_s / self.seconds <= (part + 1) / 3
            ]
            count = inside[-1].latencies - inside[0].latencies if len(inside) > 1 else 0
            total_s = inside[-1].latency_s - inside[0].latency_s if count else 0.0
            thirds.append(1e3 * total_s / count if count else float("nan"))
        try:
            report = json.loads(self.profile.read_text())
        except (OSError, ValueError):
            self._verdict("latency bounded", False, "no report was written")
            return
        self.report = report
        p99_ms = {name: stage["p99_ms"] for name, stage in report["stages"].items()}
        # a picture may find the renderer and its output busy with the one before
        twice_ms = 2 * (p99_ms.pop("render") + p99_ms.pop("encode"))
        bound_ms = 1e3 / 10 + sum(p99_ms.values()) - p99_ms["decode"] + twice_ms
        latency = report["latency"]
        self._verdict(
            "latency bounded",
            latency["p99_ms"] <= bound_ms and thirds[2] <= 1.5 * thirds[0],
            f"p50 {latency['p50_ms']:.0f}, p95 {latency['p95_ms']:.0f}, p99 "
            f"{latency['p99_ms']:.0f}, max {latency['max_ms']:.0f} ms; bound {bound_ms:.0f} ms "
            "(a frame interval, p99 of each stage, rendering and outputs twice); mean of the "
            f"three thirds {', '.join(f'{value:.0f}' for value in thirds)} ms",
        )

    def _judge_outputs(self) -> None:
        import av

        try:
            with av.open(str(self.output)) as container:
                pictures = sum(1 for _ in container.decode(video=0))
        except (OSError, av.error.FFmpegError) as error:
            self._verdict("what was written plays", False, str(error))
            return
        text = self.lines.read_text() if self.lines.exists() else ""
        broken = sum(1 for line in text.splitlines() if not _is_json(line))
        self._verdict(
            "what was written plays",
            pictures > 0 and not broken and text.endswith("\n"),
            f"{pictures} pictures up to the full disk; {text.count(chr(10))} JSON lines, "
            f"{broken} broken",
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything."""
        report = getattr(self, "report", {})
        return {
            "machine": machine(),
            "minutes": self._options.minutes,
            "seed": self._options.seed,
            "verdicts": [
                {"name": name, "held": held, "text": text} for name, held, text in self.verdicts
            ],
            "faults": [asdict(fault) for fault in self.faults],
            "streams": report.get("streams", []),
            "dropped": report.get("dropped", {}),
            "stages": report.get("stages", {}),
            "latency": report.get("latency", {}),
            "samples": [asdict(sample) for sample in self.samples],
        }


def url_of(server: Server) -> str:
    """Return the address of a server's stream."""
    return f"rtsp://127.0.0.1:{server.port}/live"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the table, and return 0 where everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="where everything is written as JSON")
    parser.add_argument("--log", help="where the log of rt-seg is copied to")
    parser.add_argument("rest", nargs="*", help="options passed on to rt-seg, after --")
    options = parser.parse_args(arguments)
    if options.minutes < 3:
        parser.error("--minutes is 3 or more: the first and the last minute are left in peace")
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        with small_disk(folder) as disk:
            soak = Soak(options, folder, disk)
            soak.run()
        if options.log:
            Path(options.log).write_bytes((folder / "log").read_bytes())
    print(f"machine   {machine()}")
    print(f"run       {options.minutes:g} minutes, seed {options.seed}")
    for stream in getattr(soak, "report", {}).get("streams", []):
        latency = stream["latency"]
        print(
            f"stream    {stream['source']}: {stream['frames_in']} in, {stream['frames_out']} out, "
            f"dropped {stream['dropped']}, {stream['reconnects']} reconnects, "
            f"{stream['stalls']} stalls; latency p50 {latency['p50_ms']:.0f} p99 "
            f"{latency['p99_ms']:.0f} max {latency['max_ms']:.0f} ms; {stream['end']}"
        )
    for title, held, text in soak.verdicts:
        print(f"{'held  ' if held else 'BROKEN'}    {title}: {text}")
    if options.json:
        Path(options.json).write_text(json.dumps(soak.as_json(), indent=1) + "\n")
    return 0 if all(held for _, held, _ in soak.verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
