"""The GPU engine on a driver made for the tests; run by ``test_tensorrt_engine.py``.

The CUDA package and all of the engine are real; what stands in for a GPU is the driver below
the package (:mod:`tests.engines.host_driver`), and ONNX Runtime for the plan's computation.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from rtseg.engines.cuda_layer import Package, open_cuda
from rtseg.engines.deployable import read_deployable
from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import PlanHeader, PlanIdentity
from rtseg.engines.tensorrt_engine import TensorRtEngine
from tests.contract.test_engines import (  # noqa: F401  the contract, with the fixtures below
    frames_for,
    test_a_batch_larger_than_the_requests_does_not_hang,
    test_a_result_is_taken_once_and_from_its_own_engine,
    test_close_ends_a_submit_that_waits,
    test_frames_may_be_read_only_or_a_view,
    test_labels_are_those_of_numpy,
    test_labels_belong_to_the_caller,
    test_many_threads_may_share_an_engine,
    test_one_thread_submits_and_another_takes_results,
    test_results_may_be_taken_in_any_order,
    test_submit_never_waits_for_a_result_to_be_taken,
    test_use_after_close_is_refused,
    test_wrong_frames_are_refused,
)
from tests.engines.host_driver import HostDriver
from tests.engines.networks import TinyNet

DRIVER = HostDriver()
PACKAGE = cast(Package, os.environ.get("RTSEG_TEST_CUDA", "cuda-python"))
if PACKAGE == "pycuda":  # it is linked with more of the driver than the tests' has
    sys.setdlopenflags(os.RTLD_LAZY)
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
MAX_BATCH = 4
NO_CONTEXT = 201  # CUDA_ERROR_INVALID_CONTEXT


@dataclass
class HostPlan:
    """A plan that ONNX Runtime computes when the stream gets there."""

    path: Path
    size: tuple[int, int]
    own_graphs: bool = False
    failing: bool = False
    closed: bool = False
    shapes: list[int] = field(default_factory=list)
    making: int = 0
    most_made_at_once: int = 0

    def __post_init__(self) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(self.path))

    def context(self, frames: int, labels: int, *, graph: bool) -> HostContext:
        self.making += 1
        self.most_made_at_once = max(self.most_made_at_once, self.making)
        time.sleep(0.005)
        self.making -= 1
        return HostContext(self, frames, labels)

    def close(self) -> None:
        self.closed = True


class HostContext:
    """Reads and writes where it was told to, as an execution context does."""

    def __init__(self, plan: HostPlan, frames: int, labels: int) -> None:
        self._plan = plan
        self._addresses = frames, labels
        self._count = 0
        self._callback = _CALLBACK(self._compute)

    def set_frames(self, count: int) -> None:
        self._plan.shapes.append(count)
        self._count = count

    def enqueue(self, stream: int) -> None:
        if self._plan.failing:
            raise EngineError("TensorRT failed: as asked", reason="ENGINE_FAILED")
        assert not DRIVER.library.cuLaunchHostFunc(stream, self._callback, None)

    def _compute(self, _: Any) -> None:
        height, width = self._plan.size
        frames = self._at(self._addresses[0], (self._count, height, width, 3))
        labels = self._at(self._addresses[1], (self._count, height, width))
        # A plan takes what a plan is built from: any number of frames, though this one is
        # computed one by one.
        for index in range(self._count):
            name = self._plan.session.get_inputs()[0].name
            labels[index] = self._plan.session.run(None, {name: frames[index : index + 1]})[0][0]

    @staticmethod
    def _at(address: int, shape: tuple[int, ...]) -> Any:
        count = int(np.prod(shape))
        return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address)).reshape(shape)


def header_of(path: Path) -> PlanHeader:
    network = read_deployable(path)
    spec = network.spec
    identity = PlanIdentity(
        backend="tensorrt",
        runtime_version="10.0",
        gpu="Host GPU",
        compute_capability="8.9",
        network=spec.network,
        width=spec.width,
        height=spec.height,
        precision="fp32",
        max_batch=MAX_BATCH,
        workspace_mib=0,
        file_sha256="",
        source_sha256="",
        calibration_sha256="",
        maker_version="",
    )
    return PlanHeader(identity, spec, network.input_name, network.output_name)


Opener = Callable[..., Engine]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Open engines as the contract's own fixture does, and count what is left at the end."""
    before = DRIVER.live()
    engines: list[TensorRtEngine] = []

    def open_network(net: TinyNet, **options: Any) -> TensorRtEngine:
        plan = options.pop("plan", {})
        path = net.save_ours(tmp_path / f"net{len(engines)}.onnx")
        header = header_of(path)
        host = HostPlan(path, (net.height, net.width), **plan)
        engines.append(TensorRtEngine(header, host, open_cuda(package=PACKAGE), **options))
        return engines[-1]

    yield open_network
    for one in engines:
        one.close()
    DRIVER.fail("", 0)
    assert DRIVER.live() == before


graphs = pytest.mark.skipif(PACKAGE == "pycuda", reason="PyCUDA has no graphs")


@graphs
def test_graphs_are_captured_once_for_each_number_of_frames(opened: Opener) -> None:
    engine = opened(TinyNet())
    batches = [frames_for(engine, count) for count in (1, 2, 3, 4, 1, 2, 3, 4)]
    plain = opened(TinyNet(), graph=False)
    before = DRIVER.library.host_launches()
    for _ in range(3):
        for frames in batches:
            assert np.array_equal(engine.infer(frames), plain.infer(frames))
    assert DRIVER.library.host_launches() > before
    graphs = DRIVER.live()["graphs"]
    for frames in batches:
        engine.infer(frames)
    assert DRIVER.live()["graphs"] == graphs <= 2 * 2  # two slots, two numbers of frames


@pytest.mark.parametrize("graph", [True, False])
def test_contexts_are_made_one_at_a_time(opened: Opener, graph: bool) -> None:
    engine = opened(TinyNet(), requests=4, graph=graph)
    plan = engine._plan  # type: ignore[attr-defined]
    batches = [frames_for(engine, count) for count in (2, 3, 4, 2, 3, 4, 4, 3)]
    handles = [engine.submit(frames) for frames in batches]
    plain = opened(TinyNet(), graph=False)
    for handle, frames in zip(handles, batches, strict=True):
        assert np.array_equal(engine.result(handle), plain.infer(frames))
    assert len(plan.shapes) > 4
    assert plan.most_made_at_once == 1


def test_a_runtime_with_graphs_of_its_own_is_left_to_them(opened: Opener) -> None:
    engine = opened(TinyNet(), plan={"own_graphs": True})
    before = DRIVER.library.host_launches()
    engine.infer(frames_for(engine))
    engine.infer(frames_for(engine))
    assert DRIVER.library.host_launches() == before


def test_a_batch_over_the_largest_is_split(opened: Opener) -> None:
    engine = opened(TinyNet())
    frames = frames_for(engine, 2 * MAX_BATCH + 1)
    handle = engine.submit(frames)
    labels = engine.result(handle)
    for index in range(len(frames)):
        assert np.array_equal(labels[index : index + 1], engine.infer(frames[index : index + 1]))
    assert handle.timing is not None
    assert min(handle.timing.upload_ms, handle.timing.infer_ms, handle.timing.download_ms) >= 0


def test_the_profile_says_what_it_runs_on(opened: Opener) -> None:
    profile = opened(TinyNet(), requests=3).profile()
    assert (profile.backend, profile.device, profile.precision) == ("tensorrt", "Host GPU", "fp32")
    assert (profile.requests, profile.threads, profile.parallel) == (3, 0, 1)


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        ("cuMemcpyHtoDAsync", 700, "DEVICE_LOST"),
        ("cuEventSynchronize", 719, "DEVICE_LOST"),
        pytest.param("cuGraphLaunch", 2, "NO_MEMORY", marks=graphs),
        ("cuMemcpyDtoHAsync", 1, "ENGINE_FAILED"),
    ],
)
def test_what_fails_on_the_gpu_is_one_line(
    opened: Opener, call: str, code: int, reason: str
) -> None:
    engine = opened(TinyNet())
    frames = frames_for(engine)
    expected = engine.infer(frames)
    engine.infer(frames)
    engine.infer(frames)  # both slots have their graph
    DRIVER.fail(call, code)
    with pytest.raises(EngineError) as caught:
        engine.infer(frames)
    assert caught.value.reason == reason
    assert call in str(caught.value)
    assert "\n" not in str(caught.value)
    DRIVER.fail("", 0)
    assert np.array_equal(engine.infer(frames), expected)


@pytest.mark.parametrize(
    "call", ["cuStreamCreate", "cuEventCreate", "cuMemAlloc", "cuMemHostAlloc"]
)
def test_no_room_at_the_start_leaves_nothing(opened: Opener, call: str) -> None:
    DRIVER.fail(call, 2)
    with pytest.raises(EngineError, match="memory is full") as caught:
        opened(TinyNet())
    assert caught.value.reason == "NO_MEMORY"


def test_a_runtime_that_fails_leaves_nothing(opened: Opener) -> None:
    with pytest.raises(EngineError, match="as asked"):
        opened(TinyNet(), plan={"failing": True})


def test_what_cannot_be_captured_runs_all_the_same(opened: Opener) -> None:
    DRIVER.fail("cuGraphInstantiateWithFlags", 901)
    engine = opened(TinyNet())
    expected = opened(TinyNet(), graph=False).infer(frames_for(engine))
    before = DRIVER.library.host_launches()
    for _ in range(4):
        assert np.array_equal(engine.infer(frames_for(engine)), expected)
    assert DRIVER.library.host_launches() == before


def test_a_package_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        EngineError, match=r"no package to talk to the GPU with \(pycuda: "
    ) as caught:
        open_cuda(package="pycuda")
    assert caught.value.reason == "BACKEND_MISSING"


def test_calls_outside_the_context_are_refused_by_the_driver() -> None:
    cuda = open_cuda(package=PACKAGE)
    assert cuda.gpu.name == "Host GPU"
    assert cuda.package.startswith(f"{PACKAGE} ")
    with pytest.raises(EngineError, match=r"the GPU failed .*(context|CONTEXT)"):
        cuda.allocate(1)
    with cuda.current():
        assert cuda.memory() == (1 << 20, 1 << 30)
    cuda.close()
    cuda.close()
    with pytest.raises(EngineError, match="closed"), cuda.current():
        pass


@pytest.mark.parametrize("elsewhere", [False, True])
def test_no_context_stays_behind(elsewhere: bool) -> None:
    cuda = open_cuda(package=PACKAGE)
    with cuda.current():
        stream, event = cuda.stream(), cuda.event()
        cuda.end_event(event)
        cuda.end_stream(stream)
    if elsewhere:
        thread = threading.Thread(target=cuda.close)
        thread.start()
        thread.join()
    else:
        cuda.close()
    assert DRIVER.library.cuCtxPopCurrent(None) == NO_CONTEXT
