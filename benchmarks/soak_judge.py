"""Judges a run of ``benchmarks/soak.py`` by its samples, log, report and outputs."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak_parts import Fault, Log, Sample

FLAT = 0.02

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


@dataclass(frozen=True)
class Run:
    """What is judged.

    Attributes:
        seconds: how long it was to run.
        faults: what was done to it; what the log said of each is added.
        samples: the process every few seconds.
        output: the video file on the disk that fills up.
        lines: the JSON lines.
        profile: the report.
    """

    seconds: float
    faults: list[Fault]
    samples: list[Sample]
    output: Path
    lines: Path
    profile: Path


@dataclass(frozen=True)
class End:
    """How the process ended; moments are those of ``time.monotonic``."""

    code: int
    alive: bool
    in_time: bool
    begun_s: float
    ended_s: float


class Judge:
    """Collects verdicts: a name, whether it held, and the figures."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.verdicts: list[tuple[str, bool, str]] = []
        self.report: dict[str, Any] = {}

    def _verdict(self, name: str, held: bool, text: str) -> None:
        self.verdicts.append((name, held, text))

    def judge(self, end: End, log: Log) -> None:
        """Judge everything."""
        self._verdict(
            "no crash, no hang",
            end.alive and end.in_time and end.code in (1, 143) and not log.strange,
            f"alive to the end: {end.alive}; ended within 60 s: {end.in_time}; exit code "
            f"{end.code}; "
            f"{len(log.strange)} lines that are no JSON {log.strange[:2] or ''}",
        )
        if not self._run.samples:
            self._verdict("samples", False, "none")
            return
        self._judge_memory()
        for name in ("threads", "handles"):
            early = self._middle(name, 0.15, 0.40)
            late = self._middle(name, 0.75, 1.0)
            self._verdict(f"no leaked {name}", late <= early, f"{early:.0f} → {late:.0f}")
        self._judge_faults(end, log)
        self._judge_latency()
        self._judge_outputs()

    def _values(self, name: str, first: float, last: float) -> list[float]:
        low_s, high_s = first * self._run.seconds, last * self._run.seconds
        return [getattr(s, name) for s in self._run.samples if low_s <= s.at_s <= high_s]

    def _middle(self, name: str, first: float, last: float) -> float:
        return statistics.median(self._values(name, first, last) or [float("nan")])

    def _judge_memory(self) -> None:
        early, late = self._middle("rss_mib", 0.20, 0.45), self._middle("rss_mib", 0.75, 1.0)
        growth = late / early - 1
        most = max(sample.rss_mib for sample in self._run.samples)
        self._verdict(
            "memory flat within 2 %",
            growth <= FLAT,
            f"{early:.1f} → {late:.1f} MiB ({growth:+.1%}; medians from 20 to 45 % and from "
            f"75 % of the time on); at most {most:.1f} MiB",
        )

    def _judge_faults(self, end: End, log: Log) -> None:
        untold = []
        for number, fault in enumerate(self._run.faults):
            since_s = end.begun_s + fault.at_s
            later = [f for f in self._run.faults[number + 1 :] if f.what == fault.what]
            until_s = end.begun_s + later[0].at_s if later else end.ended_s + 60
            words, last = EXPECTED[fault.kind]
            about = fault.what if fault.what.isdigit() else ""
            fault.reasons = log.reasons(since_s, until_s, about)
            begun = any(word in fault.reasons for word in words)
            fault.told = begun and (last is None or last in fault.reasons)
            if not fault.told:
                untold.append(f"{fault.kind} at {fault.at_s:.0f} s ({fault.reasons})")
        kinds = {kind: sum(f.kind == kind for f in self._run.faults) for kind in EXPECTED}
        text = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        self._verdict(
            "every fault told with its reason",
            not untold,
            f"{len(self._run.faults)} faults ({text}); untold: {', '.join(untold) or 'none'}",
        )

    def _judge_latency(self) -> None:
        thirds = []
        for part in range(3):
            inside = [
                s
                for s in self._run.samples
                if part / 3 <= s.at_s / self._run.seconds <= (part + 1) / 3
            ]
            count = inside[-1].latencies - inside[0].latencies if len(inside) > 1 else 0
            total_s = inside[-1].latency_s - inside[0].latency_s if count else 0.0
            thirds.append(1e3 * total_s / count if count else float("nan"))
        try:
            report = json.loads(self._run.profile.read_text())
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
            with av.open(str(self._run.output)) as container:
                pictures = sum(1 for _ in container.decode(video=0))
        except (OSError, av.error.FFmpegError) as error:
            self._verdict("what was written plays", False, str(error))
            return
        text = self._run.lines.read_text() if self._run.lines.exists() else ""
        broken = sum(1 for line in text.splitlines() if not _is_json(line))
        self._verdict(
            "what was written plays",
            pictures > 0 and not broken and text.endswith("\n"),
            f"{pictures} pictures up to the full disk; {text.count(chr(10))} JSON lines, "
            f"{broken} broken",
        )


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
