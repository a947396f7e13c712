"""OpenVINO is imported without what it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino")


def output_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_no_conversion_tools_and_no_telemetry() -> None:
    code = (
        "import sys\n"
        "from rtseg.engines.openvino_runtime import load_openvino\n"
        "assert load_openvino().Core().available_devices == ['CPU']\n"
        "print([m for m in sys.modules if 'telemetry' in m or m.startswith('openvino.tools')])"
    )
    assert output_of(code) == "[]"


def test_the_conversion_tools_can_still_be_imported() -> None:
    code = (
        "from rtseg.engines.openvino_runtime import load_openvino\n"
        "load_openvino()\n"
        "import sys\n"
        "assert 'openvino.tools.ovc' not in sys.modules\n"
        "import os; os.environ['CI'] = 'true'\n"
        "from openvino.tools.ovc import convert_model\n"
        "print(convert_model.__name__)"
    )
    assert output_of(code) == "convert_model"


def test_an_openvino_that_is_there_stays() -> None:
    code = (
        "import os; os.environ['CI'] = 'true'\n"
        "import openvino\n"
        "from rtseg.engines.openvino_runtime import load_openvino\n"
        "print(load_openvino() is openvino, hasattr(openvino, 'convert_model'))"
    )
    assert output_of(code) == "True True"


def test_without_openvino() -> None:
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from rtseg.engines.openvino_runtime import load_openvino\n"
        "try: load_openvino()\n"
        "except ImportError: print('missing', 'openvino.tools.ovc' in sys.modules)"
    )
    assert output_of(code) == "missing False"
