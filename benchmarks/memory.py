"""Resident memory over ten thousand frames: flat, or not.

Plays a clip in a loop through the whole path (decode … encode) and samples the process's
resident memory; prints it at each tenth of the run and the growth after the first tenth.

    python benchmarks/memory.py [--clip FILE] [--frames 10000]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from common import clip_or_generated, machine, rt_seg


def sample(clip: Path, frames: int, folder: Path) -> list[tuple[int, float]]:
    """Return ``(frames done, resident MiB)`` pairs of one run."""
    log = folder / "frames.jsonl"
    process = subprocess.Popen(
        [
            *(rt_seg(), "--source", str(clip), "--out", str(folder / "seg.mp4"), "-y", "-q"),
            *("--loop", "0", "--max-frames", str(frames), "--jsonl", str(log)),
        ]
    )
    watched = psutil.Process(process.pid)
    samples: list[tuple[int, float]] = []
    done = 0
    position = 0
    while process.poll() is None:
        if log.exists():
            with log.open("rb") as lines:
                lines.seek(position)
                new = lines.read()
            position += len(new)
            done += new.count(b"\n")
            try:
                samples.append((done, watched.memory_info().rss / 2**20))
            except psutil.NoSuchProcess:
                break
        time.sleep(0.25)
    if process.returncode != 0:
        raise SystemExit(f"rt-seg ended with {process.returncode}")
    return samples


def main() -> None:
    """Print resident memory at each tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip")
    parser.add_argument("--frames", type=int, default=10_000)
    options = parser.parse_args()
    with clip_or_generated(options.clip) as clip, tempfile.TemporaryDirectory() as name:
        samples = sample(clip, options.frames, Path(name))
    print(f"machine  {machine()}")
    tenth = max(1, options.frames // 10)
    marks: list[tuple[int, float]] = []
    for target in range(tenth, options.frames + 1, tenth):
        reached = [entry for entry in samples if entry[0] >= target - tenth // 20]
        if reached:
            marks.append(reached[0])
    for done, mib in marks:
        print(f"{done:>8} frames  {mib:8.1f} MiB")
    if len(marks) > 1:
        growth = marks[-1][1] - marks[0][1]
        print(f"growth after the first tenth: {growth:+.1f} MiB ({growth / marks[0][1]:+.1%})")


if __name__ == "__main__":
    main()
