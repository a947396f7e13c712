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
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from common import machine, rt_seg
from soak_judge import End, Judge, Run
from soak_parts import Fault, Log, Reader, Sample, Server, fill, scrape, small_disk

TIMEOUT_S = 5
SAMPLE_S = 5.0
LASTS_S = {"stall": (12, 18), "kill": (2, 6), "size": (2, 6), "slow sink": (15, 20)}


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
        seconds = options.minutes * 60
        self._run = Run(
            seconds,
            schedule(random.Random(options.seed), seconds, disk is not None),
            [],
            (disk or folder) / "grid.mp4",
            folder / "frames.jsonl",
            folder / "profile.json",
        )
        self._judge = Judge(self._run)

    def run(self) -> None:
        """Run, break things, and judge."""
        servers = {"one": Server("smpte", (640, 360), 15), "two": Server("ball", (320, 240), 25)}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = int(listener.getsockname()[1])
        command = [
            rt_seg(),
            *(word for s in servers.values() for word in ("--source", url_of(s))),
            *("--source", "lavfi:testsrc2=size=640x360:rate=10,realtime"),
            *("--layout", "grid", "--out", str(self._run.output), "--out", "-", "--out", "null"),
            *("--jsonl", str(self._run.lines), "--profile", str(self._run.profile)),
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
            ended_s = time.monotonic()
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
        end = End(process.returncode, alive, ended_in_time, begun_s, ended_s)
        self._judge.judge(end, log)

    def _watch(self, process: subprocess.Popen[bytes], port: int, begun_s: float) -> None:
        watched = psutil.Process(process.pid)
        while process.poll() is None and time.monotonic() - begun_s < self._run.seconds:
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
            self._run.samples.append(sample)
            if len(self._run.samples) % 12 == 0:
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
        for fault in self._run.faults:
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

    @property
    def verdicts(self) -> list[tuple[str, bool, str]]:
        """Of each thing that was judged its name, whether it held, and the figures."""
        return self._judge.verdicts

    @property
    def report(self) -> dict[str, Any]:
        """The report of ``rt-seg``; empty where there is none."""
        return self._judge.report

    def as_json(self) -> dict[str, Any]:
        """Return everything."""
        report = self.report
        return {
            "machine": machine(),
            "minutes": self._options.minutes,
            "seed": self._options.seed,
            "verdicts": [
                {"name": name, "held": held, "text": text} for name, held, text in self.verdicts
            ],
            "faults": [asdict(fault) for fault in self._run.faults],
            "streams": report.get("streams", []),
            "dropped": report.get("dropped", {}),
            "stages": report.get("stages", {}),
            "latency": report.get("latency", {}),
            "samples": [asdict(sample) for sample in self._run.samples],
        }


def url_of(server: Server) -> str:
    """Return the address of a server's stream."""
    return f"rtsp://127.0.0.1:{server.port}/live"


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
    for stream in soak.report.get("streams", []):
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
