"""Which GPU there is: the real driver where it is, and one made for the test."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rtseg.engines import cuda
from rtseg.engines.cuda import Gpu, NoGpu, find_gpu

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
  strncpy(name, device == 40 ? "Street GPU" : "wrong", length); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 9 : -1; return device != 40; }
"""


def driver(folder: Path, init: int) -> str:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    source, library = folder / "driver.c", folder / f"driver{init}.so"
    source.write_text(DRIVER)
    command = ["cc", "-shared", "-fPIC", f"-DINIT={init}", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    return str(library)


def test_this_machines_gpu_is_the_one_that_nvidias_own_tool_finds() -> None:
    listed = ""
    if tool := shutil.which("nvidia-smi"):
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
        listed = done.stdout if done.returncode == 0 else ""
    found = find_gpu()
    if "GPU 0" in listed:
        assert isinstance(found, Gpu)
        assert found.name in listed
        assert re.fullmatch(r"\d+\.\d", found.compute_capability)
    elif tool or not library_is_there():
        assert isinstance(found, NoGpu)
        assert re.search("no NVIDIA driver|finds no usable GPU|there are 0", found.reason)
        assert "\n" not in found.reason
    else:
        pytest.skip("needs nvidia-smi to compare with")


def library_is_there() -> bool:
    try:
        ctypes.CDLL(cuda._LIBRARY)
    except OSError:
        return False
    return True


def test_a_driver_with_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_LIBRARY", driver(tmp_path, 0))
    assert find_gpu() == Gpu("Street GPU", "8.9")
    assert find_gpu(1) == NoGpu("there are 1 NVIDIA GPUs, numbered from 0. Received: 1")


def test_a_driver_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_LIBRARY", driver(tmp_path, 100))
    assert find_gpu() == NoGpu("the NVIDIA driver finds no usable GPU (cuInit: error 100)")


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_LIBRARY", str(tmp_path / "absent.so"))
    found = find_gpu()
    assert isinstance(found, NoGpu)
    assert "no NVIDIA driver" in found.reason
