"""Where PyCUDA's compiler is found; the package itself runs in ``on_host_driver``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rtseg.engines.cuda_pycuda import find_nvcc

TOOL = "nvcc.exe" if sys.platform == "win32" else "nvcc"


def compiler(folder: Path) -> str:
    folder.mkdir(parents=True)
    tool = folder / TOOL
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    return str(tool)


def test_the_compiler_on_the_path_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(tmp_path / "site" / "nvidia" / "cu13" / "bin")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = compiler(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + os.environ["PATH"])
    assert find_nvcc() == found


def test_the_compiler_of_the_packages_is_found_without_a_toolkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = compiler(tmp_path / "site" / "nvidia" / "cu13" / "bin")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    assert find_nvcc() == found
    monkeypatch.setattr(sys, "path", [str(tmp_path / "bin")])
    assert find_nvcc() is None
