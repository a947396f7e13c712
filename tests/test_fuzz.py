"""A short seeded part of benchmarks/fuzz.py in every run of the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

KINDS = (
    "container,bitstream,image,onnx,note,plan,header,palette,config,calibration,list,url,command"
)


def test_two_hundred_damaged_inputs_are_answered_in_order(tmp_path: Path) -> None:
    words = ("--count", "200", "--seed", "11", "--workers", "1", "--kinds", KINDS)
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), *words, "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 inputs" in done.stdout
