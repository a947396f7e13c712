"""Seconds from typing the command to the first finished frame, and of ``--help``.

The first run after an installation also compiles the model; later ones find it in the cache.

    python benchmarks/startup.py [--clip FILE] [--runs 5]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from common import clip_or_generated, machine, median_and_spread, rt_seg


def first_frame_s(clip: Path, folder: Path) -> float:
    """Return the seconds from process start until the first frame was through the loop."""
    log = folder / "frames.jsonl"
    output = folder / "seg.mp4"
    log.unlink(missing_ok=True)
    begin_s = time.perf_counter()
    process = subprocess.Popen(
        [
            *(rt_seg(), "--source", str(clip), "--out", str(output), "-y", "-q"),
            *("--jsonl", str(log), "--max-frames", "30"),
        ]
    )
    while not (log.exists() and log.stat().st_size):
        if process.poll() is not None:
            raise SystemExit(f"rt-seg ended with {process.returncode} before its first frame")
        time.sleep(0.002)
    elapsed_s = time.perf_counter() - begin_s
    process.wait()
    return elapsed_s


def help_s() -> float:
    """Return the seconds that ``rt-seg --help`` takes."""
    begin_s = time.perf_counter()
    subprocess.run([rt_seg(), "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin_s


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with clip_or_generated(options.clip) as clip, tempfile.TemporaryDirectory() as name:
        first = [first_frame_s(clip, Path(name)) for _ in range(options.runs)]
        helps = [help_s() for _ in range(options.runs)]
    print(f"machine      {machine()}")
    print(f"first frame  {', '.join(f'{s:.2f}' for s in first)} s (in order of the runs)")
    print(f"--help       {median_and_spread([s * 1e3 for s in helps])} ms")


if __name__ == "__main__":
    main()
