"""How the commands end, whatever ends them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.engines.errors import EngineError
from rtseg.engines.openvino_runtime import load_openvino
from rtseg.realtime.errors import UsageError
from rtseg.tools.ending import say_failure
from rtseg.tools.rt_seg_engine import main
from tests.calibration.nets import save_images
from tests.engines.networks import TinyNet

TYPED = [sys.executable, "-m", "rtseg.tools.rt_seg_engine"]


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (EngineError("two\nlines", reason="NOT_FOUND"), "NOT_FOUND: two lines", 1),
        (UsageError("what?"), "USAGE: what?", 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "NOT_FOUND: x: File name", 1),
        (OSError(errno.ENOSPC, "No space left on device"), "NO_SPACE: No space left", 1),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "PERMISSION_DENIED: x: ", 1),
        (MemoryError(), "NO_MEMORY: ", 1),
        (TypeError("of a library"), "INTERNAL: unexpected TypeError: of a library", 1),
    ],
)
def test_one_line_for_each_error(
    error: Exception, line: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say_failure("rt-seg-engine", error) == code
    said = capsys.readouterr().err
    assert said.startswith(f"rt-seg-engine: error: {line}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "typed",
    [
        ["build", "a" * 300 + ".onnx", "--calib-data", "."],
        ["build", "--calib-data", "a" * 300],
        ["build", "--calib-data", ".", "--out", "a" * 300 + ".onnx"],
    ],
)
def test_names_that_no_file_can_have(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed) == 1
    assert capsys.readouterr().err.startswith("rt-seg-engine: error: NOT_FOUND: ")


#: Ends a build where it compares the file that it has made, which is not in its place yet.
STOPPED = """
import os, signal, sys
from rtseg.tools import engine_build
from rtseg.tools.rt_seg_engine import main

def stop(*_):
    os.kill(os.getpid(), int(sys.argv[1]))

engine_build._compare = stop
engine_build._samples = lambda _: [None]
before = signal.getsignal(signal.SIGTERM)
try:
    ended = main(sys.argv[2:])
finally:
    assert signal.getsignal(signal.SIGTERM) == before
sys.exit(ended)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_no_half_file(number: signal.Signals, code: int, tmp_path: Path) -> None:
    source = TinyNet(channels=4).save(tmp_path / "net.onnx")
    out = tmp_path / "out" / "fp16.onnx"
    out.parent.mkdir()
    typed = ["build", str(source), "--precision", "fp16", "-o", str(out)]
    typed += ["--verify", "x", "--max-drop", "1"]
    script = [sys.executable, "-c", STOPPED, str(int(number)), *typed]
    done = subprocess.run(script, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.parent.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_second_signal_ends_what_swallowed_the_first() -> None:
    code = (
        "import os, signal\n"
        "from rtseg.tools.ending import tidy_when_terminated\n"
        "with tidy_when_terminated():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); print('not ended')\n"
        "    except SystemExit: pass\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); print('not ended')\n"
        "    except SystemExit: print('raised')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    source = TinyNet(channels=4).save(tmp_path / "net.onnx")
    images = save_images(tmp_path / "images", 1)
    typed = [*TYPED, "build", str(source), "--calib-data", str(images), "--precision", "fp16"]
    out = tmp_path / "fp16.onnx"
    line = " ".join([*typed, "--out", str(out), closed])
    subprocess.run(["sh", "-c", line], check=True)
    assert out.is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*TYPED, "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "rt-seg-engine: error: NO_SPACE: No space left on device\n"


def test_an_ir_is_read_without_conversion_tools_and_their_telemetry(tmp_path: Path) -> None:
    openvino = load_openvino()
    source = TinyNet().save(tmp_path / "net.onnx")
    openvino.save_model(openvino.Core().read_model(source), tmp_path / "net.xml")
    code = (
        "import sys; from rtseg.tools.rt_seg_engine import main; "
        "assert main(['info', sys.argv[1]]) == 0; assert 'openvino.tools.ovc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "net.xml")], check=True)


def test_a_terminal_without_utf8_gets_its_table(tmp_path: Path) -> None:
    source = TinyNet(channels=4).save(tmp_path / "net.onnx")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    other = TinyNet(channels=6).save(tmp_path / "other.onnx")
    typed = [*TYPED, "bench", str(source), str(other), "-n", "1", "--rounds", "1"]
    done = subprocess.run(typed, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"latency" in done.stdout.lower()


def test_a_sentence_is_no_reason() -> None:
    error = UnicodeEncodeError("latin-1", "–", 0, 1, "ordinal not in range(256)")
    assert say_failure("rt-seg-engine", error) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("module", ["realtime.entry", "tools.rt_seg_engine", "tools.rt_seg_model"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_disk_under_what_is_printed(module: str, option: str) -> None:
    begin = "command" if module == "realtime.entry" else "main"
    code = f"import sys; from rtseg.{module} import {begin}; sys.exit({begin}())"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, option],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "error: NO_SPACE: No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_tools_do_not_repeat_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "rtsp://u:secret@h/x"]) == 1
    assert main(["list", "rtsp://u:secret@h/x"]) == 2
    said = capsys.readouterr().err
    assert said.count("rtsp://***@h/x") == 2
    assert "secret" not in said
