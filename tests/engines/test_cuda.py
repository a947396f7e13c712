"""Which GPU there is: the real driver where it is, and one made for the test."""

from __future__ import annotations

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


def test_this_machine_has_a_gpu_or_says_why_not() -> None:
    found = find_gpu()
    if isinstance(found, Gpu):
        assert found.name
        assert found.compute_capability.replace(".", "").isdigit()
    else:
        assert "driver" in found.reason
        assert "\n" not in found.reason


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
