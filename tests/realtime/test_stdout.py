"""What goes to standard output is that alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.realtime.cli import main

COMMAND = [sys.executable, "-c", "from rtseg.realtime.cli import command; command()"]
SHORT = ["--source", "lavfi:testsrc=size=64x48", "--max-frames", "4"]


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("target", ["-", "/dev/stdout"])
def test_lines_on_standard_output(tmp_path: Path, sources: int, target: str) -> None:
    words = [*SHORT, *["--source", "lavfi:testsrc=size=64x48"] * (sources - 1)]
    ran = subprocess.run(
        [*COMMAND, *words, "--jsonl", target], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(lines) == 4 * sources
    assert all("classes" in line for line in lines)
    assert "end to end" in ran.stderr  # the report
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_ends_the_run_with_one_line() -> None:
    words = ["--source", "lavfi:testsrc=size=64x48", "--max-frames", "200", "-q", "--jsonl", "-"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait() == 1
    assert "BROKEN_PIPE" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "-", "--jsonl", "-"], "the same place"),
        (["--labels-out", "-"], "not written to standard output"),
    ],
)
def test_what_cannot_go_there(words: list[str], says: str, capfd: pytest.CaptureFixture) -> None:
    assert main([*SHORT, *words, "-q"]) == 2
    said = capfd.readouterr()
    assert says in said.err
    assert not said.out
