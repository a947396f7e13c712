"""Arrows between rooms point one way, and light imports stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "engines": {"engines"},
    "calibration": {"calibration", "engines"},
    "models": {"models", "calibration", "engines"},
    "realtime": {"realtime", "engines"},
    "tools": {"tools", "realtime", "models", "calibration", "engines"},
}
HEAVY = {
    "tensorflow",
    "keras",
    "torch",
    "jax",
    "tensorrt",
    "tensorrt_rtx",
    "pycuda",
    "cuda",
    "openvino",
    "onnxruntime",
    "onnx",
    "cv2",
    "av",
    "prometheus_client",
    "uvicorn",
    "starlette",
    "websockets",
    "aiortc",
    "rich",
    "tkinter",
}


def imported_rooms(path: Path) -> set[str]:
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("rtseg.")}
    return rooms


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_nothing_imports_upward(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        wrong = imported_rooms(path) - ALLOWED[room]
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after ``code``."""
    script = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import rtseg.realtime",
        "import rtseg.engines",
        "import rtseg.realtime.early\nimport sys\nassert 'numpy' not in sys.modules",
        "import rtseg.models",
        "import rtseg.calibration",
        "from rtseg.realtime.cli import main\nassert main(['--help']) == 0",
        "from rtseg.realtime.cli import main\nassert main(['--no-such-option']) == 2",
        "from rtseg.tools.rt_seg_engine import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass",
        "from rtseg.tools.rt_seg_model import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    ],
)
def test_light_imports_stay_light(code: str) -> None:
    assert not modules_after(code) & HEAVY


def test_a_run_never_imports_a_training_framework(tmp_path: Path) -> None:
    code = (
        "from rtseg.realtime.cli import main\n"
        "assert main(['--source', 'testsrc', '--max-frames', '2', '--out', 'null', '-q']) == 0"
    )
    loaded = modules_after(code)
    assert "openvino" in loaded or "onnxruntime" in loaded
    assert not loaded & {"tensorflow", "keras", "torch", "jax", "tensorrt", "cuda", "pycuda"}
    assert "openvino_telemetry" not in loaded, "a run would report itself to a web service"
