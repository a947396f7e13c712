"""What calibrating a network to INT8 costs: seconds and memory of ``rt-seg-engine build``.

    python benchmarks/calibration.py --data CITYSCAPES [--images 512] [--runs 3] [-- OPTIONS]

Each run is a process of its own; options behind ``--`` go to ``rt-seg-engine build``. The
goals are 512 images in under 300 seconds on two cores and under 1,000 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import machine, median_and_spread

_MB = 1e6


def calibrate(data: Path, images: int, more: list[str]) -> dict[str, Any]:
    """Build an INT8 file in a process of its own and return what it cost.

    Raises:
        SystemExit: the build failed; its error line is passed on.
    """
    beside = Path(sys.executable).with_name("rt-seg-engine")
    command = str(beside) if beside.exists() else shutil.which("rt-seg-engine")
    if not command:
        raise SystemExit("rt-seg-engine is not installed in this environment: pip install .")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "int8.onnx"
        typed = [command, "build", "--calib-data", str(data), "--calib-images", str(images)]
        log, errors = Path(folder) / "record.json", Path(folder) / "errors"
        began = time.perf_counter()
        with log.open("wb") as said, errors.open("wb") as failed:
            process = subprocess.Popen(
                [*typed, "--out", str(out), "--json", *more], stdout=said, stderr=failed
            )
            _, status, usage = os.wait4(process.pid, 0)
        elapsed_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(errors.read_text().strip())
        record: dict[str, Any] = json.loads(log.read_text())
    return {
        "images": record["images"],
        "method": record["method"],
        "seconds": elapsed_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / _MB,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="as --calib-data takes it")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("options", nargs="*", help="for rt-seg-engine build, behind --")
    options = parser.parse_args()
    runs = [calibrate(options.data, options.images, options.options) for _ in range(options.runs)]
    print(f"machine   {machine()}")
    print(f"images    {runs[0]['images']}, {runs[0]['method']}, {len(runs)} runs")
    for name, key in (("seconds", "seconds"), ("CPU-s", "cpu_s"), ("peak MB", "peak_mb")):
        print(f"{name:<10}{median_and_spread([run[key] for run in runs])}")


if __name__ == "__main__":
    main()
