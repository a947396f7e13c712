"""The closing report: what the run did, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtseg.engines.engine import EngineProfile
from rtseg.engines.spec import EngineSpec
from rtseg.engines.threads import available_cores
from rtseg.engines.wholefile import is_full, write_whole
from rtseg.realtime import environment
from rtseg.realtime.errors import SinkError
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.histogram import Summary
from rtseg.realtime.profile import FrameRecord, Profiler
from rtseg.realtime.sinks.sink import SinkSummary
from rtseg.realtime.wallclock import utc, utc_text

CLOCKS = (
    "decode: the decoder's work for the frame; preprocess: resize and conversion to the "
    "network's input; infer: the network with normalisation, upsampling and argmax, and with "
    "resizing and colouring where a GPU does them, without waiting for its turn; postprocess: "
    "--smooth and --redact; render: colouring and HUD; encode: the slowest output's write. "
    "end to end: from the decoder's hand-over until every output has the frame (window: "
    "until it is shown). Stages overlap: throughput is not one over their sum."
)
"""What is inside each clock."""


@dataclass(frozen=True)
class StreamReport:
    """What became of one of several sources; the fields are those of :class:`RunReport`."""

    source: str
    end: str
    frames_in: int
    frames_out: int
    dropped: dict[str, int]
    throughput_fps: float
    latency: Summary
    reconnects: int
    stalls: int
    begun_at: str | None = None

    @classmethod
    def of(cls, name: str, end: str, profiler: Profiler) -> StreamReport:
        """Put the figures of one source together."""
        elapsed_s, frames_out = profiler.elapsed_s, profiler.frames_out
        return cls(
            source=name,
            end=end,
            frames_in=profiler.frames_in,
            frames_out=frames_out,
            dropped=profiler.dropped,
            throughput_fps=frames_out / elapsed_s if elapsed_s else 0.0,
            latency=profiler.latency(),
            reconnects=profiler.reconnects,
            stalls=profiler.stalls,
            begun_at=_begun_at(profiler),
        )


@dataclass(frozen=True)
class RunReport:
    """All figures of one run.

    Attributes:
        source: name of the source, without any password.
        end: why the run ended: ``end of input``, ``interrupted``, an error's reason word.
        frames_in: frames that the source handed over.
        frames_out: frames that reached an output.
        dropped: frames that reached none, by reason.
        reconnects: how often a stream was opened again.
        stalls: how often a stream gave nothing for too long.
        elapsed_s: from the first frame in to the last frame out.
        throughput_fps: frames out over ``elapsed_s``.
        network_ms: median time of one inference inside the loop.
        network_parallel: how many inferences were computed at once.
        network_fps: ``network_parallel`` over the mean time that an inference takes one of
            those places inside the loop (of the CPU engine without upsampling, which others
            need not wait for): the rate above which the network holds the loop back.
        latency: end to end.
        stages: each stage's statistics.
        cpu_ms_per_frame: CPU time of the process in ``elapsed_s``, for each frame out.
        cores_busy: CPU time over wall time in ``elapsed_s``, in cores.
        peak_memory_mib: highest resident memory, in MiB.
        warmup_runs: network runs before the first frame, left out of everything above.
        environment: processor, engine, versions.
        frames_damaged: frames in whose data was missing or damaged, such as by lost packets.
        missed: frames out that one of several outputs did not get, by output and reason.
        outputs: what outputs say of themselves (the index of a recording's files, what a
            receiver did not get).
        streams: each of several sources; everything above is of all of them together.
        recent: the clocks of the last frames one by one.
        begun_at: when the first frame came in, in UTC; None where none did.
    """

    source: str
    end: str
    frames_in: int
    frames_out: int
    dropped: dict[str, int]
    elapsed_s: float
    throughput_fps: float
    network_ms: float
    network_parallel: int
    network_fps: float
    latency: Summary
    stages: dict[str, Summary]
    cpu_ms_per_frame: float
    cores_busy: float
    peak_memory_mib: float
    warmup_runs: int
    environment: dict[str, Any]
    reconnects: int = 0
    stalls: int = 0
    frames_damaged: int = 0
    missed: dict[str, dict[str, int]] = field(default_factory=dict)
    outputs: list[SinkSummary] = field(default_factory=list)
    streams: list[StreamReport] = field(default_factory=list)
    recent: list[FrameRecord] = field(default_factory=list)
    begun_at: str | None = None

    def to_json(self) -> str:
        """Return the report as one JSON object with a ``clocks`` text."""
        return json.dumps({**dataclasses.asdict(self), "clocks": CLOCKS}, indent=2) + "\n"

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        lines = [
            f"{'stage':<12}{'n':>7}{'mean':>8}{'p50':>8}{'p90':>8}{'p95':>8}{'p99':>8}"
            f"{'max':>9}  ms"
        ]
        lines += [_row(name, summary) for name, summary in self.stages.items()]
        lines.append(_row("end to end", self.latency))
        drops = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        lines += [
            "",
            f"frames      {self.frames_in} in, {self.frames_out} out, "
            f"{sum(self.dropped.values())} dropped{f' ({drops})' if drops else ''}; "
            f"{self.warmup_runs} warm-up runs left out; "
            f"{self.reconnects} reconnects, {self.stalls} stalls"
            + (f"; {self.frames_damaged} damaged on the way" if self.frames_damaged else ""),
            *(f"left out    {line}" for line in missed_lines(self.missed)),
            f"loop        {self.throughput_fps:.1f} frames/s over {self.elapsed_s:.1f} s, "
            f"{self.cpu_ms_per_frame:.1f} CPU-ms a frame, {self.cores_busy:.2f} cores busy",
            f"network     {self.network_ms:.1f} ms (median, inside the loop), "
            f"{self.network_parallel} at once: {self.network_fps:.1f} frames/s at most "
            "(alone: rt-seg-engine bench)",
            f"memory      {self.peak_memory_mib:.0f} MiB at most",
            f"engine      {_engine_line(self.environment)}",
            *([f"quality     {chosen}"] if (chosen := self.environment.get("quality")) else []),
            *(_output_lines(output) for output in self.outputs),
            *_stream_lines(self.streams),
            *([f"begun       {self.begun_at}"] if self.begun_at else []),
            f"end         {self.end}",
            f"clocks      {CLOCKS}",
        ]
        return "\n".join(lines)


def missed_lines(missed: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a line for each output that did not get all frames that came out."""
    return [
        f"{output}: {', '.join(f'{count} {reason}' for reason, count in sorted(reasons.items()))}"
        for output, reasons in sorted(missed.items())
    ]


def check_report_path(path: Path) -> None:
    """Refuse, before a run, a place where its report cannot be written at the end.

    Raises:
        SinkError: there is no such directory, or no permission.
    """
    place = Path(os.path.realpath(path))
    folder, why = place.parent, ""
    if not folder.is_dir():
        why = "its directory does not exist"
    elif place.is_dir():
        why = "it is a directory"
    elif place.exists() and not os.access(place, os.W_OK):
        why = "no permission"
    elif not _is_special(place) and not os.access(folder, os.W_OK | os.X_OK):
        why = "no permission to write into its directory"
    if why:
        reason = "NOT_WRITABLE" if folder.is_dir() else "NOT_FOUND"
        raise SinkError(f"cannot write the profile to {path}: {why}", reason=reason)


def write_report(text: str, path: Path) -> None:
    """Write a report to a file, which is replaced if it exists, all or nothing.

    Raises:
        SinkError: the file cannot be written.
    """
    # Names of files that are no UTF-8 are in it as lone surrogates.
    data = text.encode(errors="backslashreplace")
    try:
        if _is_special(path):
            path.write_bytes(data)
        else:  # beside the file itself: a link may lead into another file system
            write_whole(Path(os.path.realpath(path)), data)
    except OSError as error:
        raise SinkError(
            f"cannot write the profile to {path}: {error.strerror or error}",
            reason="NO_SPACE" if is_full(error) else "NOT_WRITABLE",
        ) from error


def _is_special(path: Path) -> bool:
    """Return whether it is a pipe, or a device such as ``/dev/stdout``."""
    return path.exists() and not path.is_file()


def build_report(
    profiler: Profiler,
    engine: EngineProfile,
    spec: EngineSpec,
    source: SourceInfo,
    *,
    end: str,
    in_flight: int,
    outputs: Sequence[SinkSummary] = (),
) -> RunReport:
    """Put the figures of a run together.

    Args:
        profiler: the run's clocks.
        engine: what the network ran on.
        spec: what the network is.
        source: what was read.
        end: why the run ended.
        in_flight: how many inferences the loop kept in flight.
        outputs: what the outputs say of themselves.
    """
    stages = profiler.stages()
    elapsed_s, cpu_s = profiler.elapsed_s, profiler.cpu_s
    frames_out = profiler.frames_out
    infer, lane_ms = stages["infer"], profiler.lane_mean_ms
    parallel = min(engine.parallel, in_flight)
    return RunReport(
        source=source.name,
        end=end,
        frames_in=profiler.frames_in,
        frames_out=frames_out,
        dropped=profiler.dropped,
        elapsed_s=elapsed_s,
        throughput_fps=frames_out / elapsed_s if elapsed_s else 0.0,
        network_ms=infer.p50_ms,
        network_parallel=parallel,
        network_fps=parallel * 1e3 / lane_ms if lane_ms else 0.0,
        latency=profiler.latency(),
        stages=stages,
        cpu_ms_per_frame=cpu_s * 1e3 / frames_out if frames_out else 0.0,
        cores_busy=cpu_s / elapsed_s if elapsed_s else 0.0,
        peak_memory_mib=environment.peak_memory_mib(),
        warmup_runs=profiler.warmup_runs,
        reconnects=profiler.reconnects,
        stalls=profiler.stalls,
        frames_damaged=profiler.frames_damaged,
        environment={
            "cpu": environment.cpu_name(),
            "cores": available_cores(),
            "backend": engine.backend,
            "device": engine.device,
            "precision": engine.precision,
            "runtime_version": engine.runtime_version,
            "requests": engine.requests,
            "threads": engine.threads,
            "network": spec.network,
            "input": f"{spec.width}x{spec.height}",
            "quality": engine.quality,
            "source_size": f"{source.width}x{source.height}",
            "versions": environment.library_versions(),
        },
        missed=profiler.missed,
        outputs=list(outputs),
        recent=profiler.recent(),
        begun_at=_begun_at(profiler),
    )


def _begun_at(profiler: Profiler) -> str | None:
    return None if profiler.begun_ns is None else utc_text(utc(profiler.begun_ns))


def _output_lines(output: SinkSummary) -> str:
    head, *more = output.lines
    return "\n".join([f"output      {output.name}: {head}", *(f"{'':<12}{line}" for line in more)])


def _row(name: str, summary: Summary) -> str:
    if summary.n == 0:
        return f"{name:<12}{0:>7}{'-':>8}{'-':>8}{'-':>8}{'-':>8}{'-':>8}{'-':>9}"
    return (
        f"{name:<12}{summary.n:>7}{summary.mean_ms:>8.2f}{summary.p50_ms:>8.2f}"
        f"{summary.p90_ms:>8.2f}{summary.p95_ms:>8.2f}{summary.p99_ms:>8.2f}"
        f"{summary.max_ms:>9.2f}"
    )


def _stream_lines(streams: Sequence[StreamReport]) -> list[str]:
    if not streams:
        return []
    width = max(6, *(len(stream.source) for stream in streams)) + 2
    head = f"{'source':<{width}}{'in':>8}{'out':>8}{'dropped':>9}{'frames/s':>10}"
    lines = ["", f"{head}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>9} ms  back  stalls  end"]
    for stream in streams:
        latency = stream.latency
        drops = ", ".join(f"{count} {why}" for why, count in sorted(stream.dropped.items()))
        lines.append(
            f"{stream.source:<{width}}{stream.frames_in:>8}{stream.frames_out:>8}"
            f"{sum(stream.dropped.values()):>9}{stream.throughput_fps:>10.1f}"
            f"{latency.p50_ms:>8.1f}{latency.p95_ms:>8.1f}{latency.p99_ms:>8.1f}"
            f"{latency.max_ms:>9.1f}   {stream.reconnects:>6}{stream.stalls:>8}  {stream.end}"
            f"{f' (dropped: {drops})' if drops else ''}"
        )
    return [*lines, ""]


def _engine_line(environment_: dict[str, Any]) -> str:
    return (
        f"{environment_['network']} {environment_['input']} {environment_['precision']} on "
        f"{environment_['backend']} {environment_['runtime_version']}, "
        f"{environment_['requests']} requests, {environment_['threads']} threads; "
        f"{environment_['device']}, {environment_['cores']} cores"
    )
