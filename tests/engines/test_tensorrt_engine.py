"""The GPU engine without a GPU: its logic on a driver of the tests, and what it says here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rtseg.engines import cuda_layer
from rtseg.engines.build import build_engine
from rtseg.engines.cuda import NoGpu, find_gpu
from rtseg.engines.cuda_layer import PACKAGES, Package, device_error, open_cuda
from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import read_plan
from rtseg.engines.registry import list_backends, open_engine
from rtseg.engines.tensorrt_plan import TensorRtPlan
from tests.engines.host_driver import build_driver, run_suites
from tests.engines.networks import TinyNet
from tests.engines.rtx import rtx


@pytest.fixture
def no_gpu() -> None:
    if not isinstance(find_gpu(), NoGpu):
        pytest.skip("this machine has a GPU")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_engine_on_a_driver_of_the_tests(tmp_path: Path, package: Package) -> None:
    pytest.importorskip("onnxruntime")
    if build_driver(tmp_path) is None:
        pytest.skip("needs a C compiler")
    run_suites(tmp_path, "on_host_driver.py", package=package)


@pytest.mark.parametrize(
    ("code", "reason"), [(2, "NO_MEMORY"), (700, "DEVICE_LOST"), (1, "ENGINE_FAILED")]
)
def test_the_drivers_codes(code: int, reason: str) -> None:
    error = device_error("cuCall", code, "CUDA_ERROR_NAME")
    assert error.reason == reason
    assert "cuCall" in str(error)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(EngineError, match="driver") as caught:
        open_cuda()
    assert caught.value.reason == "BACKEND_MISSING"


@pytest.mark.usefixtures("no_gpu")
def test_the_runtime_refuses_a_plan_without_a_gpu(tmp_path: Path) -> None:
    rtx()
    source = TinyNet().save_ours(tmp_path / "net.onnx")
    built = build_engine(source, backend="rtx", precision="fp16", out=tmp_path / "net.engine")
    header, plan = read_plan(built.path, trusted=tmp_path)
    with pytest.raises(EngineError, match=r"^rtx .* cannot load the engine of tiny: ") as caught:
        TensorRtPlan(header, plan, cache_dir=tmp_path)
    assert caught.value.reason == "ENGINE_MISMATCH"

    with pytest.raises(EngineError, match="rtx: builds engine files, runs none: ") as caught:
        open_engine(built.path)
    assert caught.value.reason == "BACKEND_MISSING"
    with pytest.raises(EngineError, match=r"rtx runs on cuda\. Received: device cpu"):
        open_engine(built.path, device="cpu")
    with pytest.raises(EngineError, match=r"is an engine of rtx .* Received: backend openvino"):
        open_engine(built.path, backend="openvino")


@pytest.mark.usefixtures("no_gpu")
def test_cuda_falls_back_to_the_cpu_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = TinyNet().save_ours(tmp_path / "net.onnx")
    with open_engine(source, device="cuda:0", cache_dir=tmp_path) as engine:
        assert engine.profile().backend == "openvino"
    assert caplog.text.count("cuda:0 cannot be used (") == 1
    assert "computing on the CPU" in caplog.text
    with pytest.raises(EngineError, match="no runtime to compute on: rtx: ") as caught:
        open_engine(source, backend="rtx", device="cuda:0")
    assert caught.value.reason == "BACKEND_MISSING"


@pytest.mark.usefixtures("no_gpu")
def test_the_list_says_why_nothing_runs_on_a_gpu() -> None:
    states = {state.name: state for state in list_backends()}
    for name in ("tensorrt", "rtx"):
        assert not states[name].available
        assert states[name].reason
        assert "\n" not in states[name].reason


def test_a_missing_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cuda", "cuda.bindings", "pycuda"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install cuda-bindings" in cuda_layer.find_package()
