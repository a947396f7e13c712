"""What the benchmarks share: clips, runs of the installed command, medians, the machine."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rtseg.engines.quality import DEFAULT_QUALITY, quality_points, size_of_quality
from rtseg.engines.shipped import choose_model, shipped_models
from rtseg.engines.threads import available_cores
from rtseg.realtime import environment

Beside = Callable[[], AbstractContextManager[object]]
"""Starts something that goes on while the command runs."""


def machine() -> str:
    """Return one line that names the machine and the versions."""
    versions = environment.library_versions()
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{environment.cpu_name()}, {available_cores()} cores; {shown}"


def rt_seg() -> str:
    """Return the path of the installed command.

    Raises:
        SystemExit: it is not installed in this environment.
    """
    beside = Path(sys.executable).with_name("rt-seg")
    found = str(beside) if beside.exists() else shutil.which("rt-seg")
    if not found:
        raise SystemExit("rt-seg is not installed in this environment: pip install .")
    return found


def shipped_file(precision: str | None = None, size: tuple[int, int] | None = None) -> Path:
    """Return the file of the shipped network that ``rt-seg`` would take.

    Args:
        precision: as ``rt-seg --precision``.
        size: width and height; None for the default quality's.
    """
    name = "espnet-lite"
    points = quality_points(name)
    if size is None and points:
        size = size_of_quality(points, name, DEFAULT_QUALITY)
    return choose_model(shipped_models(), name, precision, size).path


def default_clip() -> Path | None:
    """Return the 720p clip of the project's own data, or None where it is absent."""
    named = os.environ.get("RTSEG_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    clip = folder / "videos" / "highway-720p.mp4"
    return clip if clip.exists() else None


@contextmanager
def clip_or_generated(named: str | None) -> Iterator[Path]:
    """Yield the clip to use: the one named, the project's own, or a generated 720p one."""
    clip = Path(named) if named else default_clip()
    if clip is not None:
        yield clip
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "testsrc-720p.mp4"
        subprocess.run(
            [
                rt_seg(),
                *("--source", "lavfi:testsrc2=size=1280x720:rate=30:duration=10"),
                *("--out", str(made), "--view", "input", "-q"),
            ],
            check=True,
        )
        yield made


def run_loop(
    arguments: Sequence[str], *, cores: Sequence[int] | None = None, beside: Beside | None = None
) -> dict[str, Any]:
    """Run ``rt-seg`` in a process of its own and return its profile.

    Args:
        arguments: of the command.
        cores: on which cores it may run; None for all.
        beside: called once the process has started, and its context left when it ends.

    Raises:
        SystemExit: the run failed; its error line is passed on.
    """
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.json"
        process = subprocess.Popen(
            [rt_seg(), *arguments, "--profile", str(profile), "-q"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
        )
        with beside() if beside else nullcontext():
            _, said = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"rt-seg failed ({process.returncode}): {said.strip()[-500:]}")
        loaded: dict[str, Any] = json.loads(profile.read_text(encoding="utf-8"))
        return loaded


def median_and_spread(values: Sequence[float], digits: int = 1) -> str:
    """Return ``median (least – most)`` of some runs."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} – {most:.{digits}f})"
