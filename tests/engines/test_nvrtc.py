"""The kernels as NVIDIA's compiler takes them; needs no GPU."""

from __future__ import annotations

import re
import sys

import pytest

from rtseg.engines.errors import EngineError
from rtseg.engines.kernels import PAINT, RESIZE, SOURCE
from rtseg.engines.nvrtc import compile_cuda

CAPABILITIES = ("7.5", "8.6", "8.9", "9.0", "12.0")


@pytest.fixture
def nvrtc() -> None:
    pytest.importorskip("cuda.bindings", reason="needs cuda-python")
    try:
        compile_cuda("", "8.0")
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_kernels_compile(capability: str) -> None:
    source = SOURCE.read_text(encoding="utf-8")
    assert compile_cuda(source, capability).startswith(b"\x7fELF")
    ptx = compile_cuda(source, capability, ptx=True)
    assert ptx.endswith(b"\0")
    text = ptx.decode()
    assert f".target sm_{capability.replace('.', '')}" in text
    for name, job in (("rtseg_resize", RESIZE), ("rtseg_paint", PAINT)):
        assert f".visible .entry {name}(" in text
        (size,) = re.findall(rf"\.param .* {name}_param_0\[(\d+)\]", text)
        assert int(size) == job.itemsize
    # slow on a GPU: memory of a thread's own, double precision; and what is not rounded alike
    for slow in (".local", "add.f64", "mul.f64", "div.f64", "fma.rn.f32 \t%f", "call"):
        assert slow not in text, slow


@pytest.mark.usefixtures("nvrtc")
def test_a_gpu_newer_than_the_compiler_gets_ptx() -> None:
    image = compile_cuda(SOURCE.read_text(encoding="utf-8"), "99.0")
    assert b".visible .entry rtseg_paint(" in image
    assert image.endswith(b"\0")


@pytest.mark.usefixtures("nvrtc")
def test_a_gpu_too_old_for_the_compiler_is_named() -> None:
    with pytest.raises(
        EngineError, match=r"capability \d+\.\d and newer\. Received: 3\.0"
    ) as caught:
        compile_cuda("", "3.0")
    assert caught.value.reason == "ENGINE_UNSUPPORTED"


@pytest.mark.usefixtures("nvrtc")
def test_what_the_compiler_says_is_passed_on_in_one_line() -> None:
    with pytest.raises(EngineError, match='identifier "unheard" is undefined') as caught:
        compile_cuda('extern "C" __global__ void one() { unheard(1); }', "8.9")
    assert caught.value.reason == "ENGINE_FAILED"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["cuda", "cuda.bindings"])
def test_without_a_compiler_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if module == "cuda":
        monkeypatch.delitem(sys.modules, "cuda.bindings", raising=False)
    with pytest.raises(EngineError, match="pip install nvidia-cuda-nvrtc") as caught:
        compile_cuda("", "8.9")
    assert caught.value.reason == "BACKEND_MISSING"
