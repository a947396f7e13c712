"""What needs an NVIDIA GPU: the CUDA packages and both runtimes, held against the CPU engine.

``pytest -m gpu tests/gpu`` on a machine with one; skips, saying why, anywhere else.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.engines.build import build_engine
from rtseg.engines.cuda import NoGpu, find_gpu
from rtseg.engines.cuda_layer import PACKAGES, Cuda, Package, open_cuda
from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import read_plan
from rtseg.engines.registry import list_backends, open_engine
from rtseg.engines.shipped import ShippedModel, shipped_models
from rtseg.engines.tensorrt import PlanOptions, Runtime
from tests.contract.test_engines import (  # noqa: F401  the contract, with the fixtures below
    frames_for,
    test_a_batch_larger_than_the_requests_does_not_hang,
    test_a_result_is_taken_once_and_from_its_own_engine,
    test_close_ends_a_submit_that_waits,
    test_close_frees_the_engine,
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
from tests.data import find_shared_data
from tests.engines.networks import TinyNet

# A build for a small GPU takes minutes.
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

SHIPPED = [model for model in shipped_models() if model.precision in ("fp32", "int8")]
SHARE = {"fp16": 0.995, "int8": 0.97}
"""Pixels that must have the CPU engine's class: types and kernels round differently."""

Opener = Callable[..., Engine]


@pytest.fixture(autouse=True)
def needs_gpu() -> None:
    found = find_gpu()
    if isinstance(found, NoGpu):
        pytest.skip(f"needs an NVIDIA GPU: {found.reason}")


@pytest.fixture(params=["tensorrt", "rtx"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    state = next(state for state in list_backends() if state.name == name)
    if not state.available:
        pytest.skip(f"{name}: {state.reason}")
    return name


@pytest.fixture
def opened(backend: str, tmp_path: Path) -> Iterator[Opener]:
    engines: list[Engine] = []

    def open_network(net: TinyNet, **options: Any) -> Engine:
        path = net.save_ours(tmp_path / f"net{len(engines)}.onnx")
        options = {"precision": "fp32", "cache_dir": tmp_path / "cache", **options}
        engines.append(open_engine(path, backend=backend, **options))
        return engines[-1]

    yield open_network
    for one in engines:
        one.close()


@pytest.fixture(params=PACKAGES)
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    package: Package = request.param
    try:
        opened = open_cuda(package=package)
    except EngineError as error:
        pytest.skip(str(error))
    yield opened
    opened.close()


def test_bytes_go_to_the_gpu_and_back(cuda: Cuda) -> None:
    count = 3 << 20
    with cuda.current():
        stream, begin, end = cuda.stream(), cuda.event(), cuda.event()
        there, given, taken = cuda.allocate(count), cuda.pin(count), cuda.pin(count)
        given[:] = np.random.default_rng(0).integers(0, 256, count, dtype=np.uint8)
        taken[:] = 0
        cuda.record(begin, stream)
        cuda.upload(there, given, stream)
        cuda.download(taken, there, stream)
        cuda.record(end, stream)
        cuda.wait(end)
        assert np.array_equal(given, taken)
        assert cuda.elapsed_ms(begin, end) > 0
        cuda.unpin(given)
        cuda.unpin(taken)
        cuda.free(there)
        cuda.end_event(begin)
        cuda.end_event(end)
        cuda.end_stream(stream)


def test_more_memory_than_there_is_is_one_line(cuda: Cuda) -> None:
    with cuda.current():
        _, total = cuda.memory()
        with pytest.raises(EngineError) as caught:
            cuda.allocate(2 * total)
        assert caught.value.reason == "NO_MEMORY"
        cuda.free(cuda.allocate(1 << 20))  # and it still works


@pytest.mark.parametrize("model", SHIPPED, ids=lambda m: m.path.stem)
def test_labels_are_those_of_the_cpu(backend: str, model: ShippedModel, tmp_path: Path) -> None:
    with open_engine(
        model.path, backend="openvino", precision=model.precision, cache_dir=tmp_path
    ) as engine:
        frames = real_frames(engine)
        expected = engine.infer(frames)
    runtime: Runtime = "rtx" if backend == "rtx" else "tensorrt"
    precision = "int8" if model.precision == "int8" else "fp16"
    options = PlanOptions(max_batch=8)
    built = build_engine(
        model.path, backend=runtime, precision=precision, options=options, cache_dir=tmp_path
    )
    with open_engine(built.path, cache_dir=tmp_path) as engine:
        assert engine.profile().precision == precision
        assert engine.profile().device
        for size in (1, 2, 8, 3):
            found = np.concatenate(
                [engine.infer(frames[n : n + size]) for n in range(0, len(frames), size)]
            )
            assert (found == expected).mean() > SHARE[precision], size


def real_frames(engine: Engine) -> np.ndarray[Any, Any]:
    """Eight frames of the street where there are any, noise elsewhere."""
    from rtseg.calibration.calibration_set import select_images

    shared = find_shared_data()
    if shared is None:
        return frames_for(engine, 8)
    chosen = select_images([shared / "unlabelled-1024x512"], 8)
    return np.stack(list(chosen.frames(engine.spec.height, engine.spec.width)))


def test_a_second_start_finds_the_engine(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = TinyNet().save_ours(tmp_path / "net.onnx")
    for times in (1, 1):
        with open_engine(path, backend=backend, cache_dir=tmp_path / "cache") as engine:
            engine.infer(frames_for(engine))
        assert caplog.text.count("building the engine of net.onnx") == times
    (kept,) = (tmp_path / "cache" / "engines").iterdir()
    with open_engine(kept) as engine:
        assert engine.profile().backend == backend


def test_an_engine_of_another_version_is_refused(backend: str, tmp_path: Path) -> None:
    from dataclasses import replace

    from rtseg.engines.planfile import write_plan

    path = TinyNet().save_ours(tmp_path / "net.onnx")
    with open_engine(path, backend=backend, cache_dir=tmp_path / "cache"):
        pass
    (kept,) = (tmp_path / "cache" / "engines").iterdir()
    header, plan = read_plan(kept)
    old = replace(header, identity=replace(header.identity, runtime_version="1.0"))
    write_plan(tmp_path / "old.engine", old, plan)
    with pytest.raises(EngineError, match="does not fit: built with") as caught:
        open_engine(tmp_path / "old.engine")
    assert caught.value.reason == "ENGINE_MISMATCH"


def test_no_memory_of_the_gpu_is_lost(backend: str, tmp_path: Path) -> None:
    if platform.machine() == "aarch64":
        pytest.skip("the GPU's memory may be the whole machine's, which others use, too")
    path = TinyNet(height=256, width=256).save_ours(tmp_path / "net.onnx")
    watcher = open_cuda()
    free = []
    for _ in range(6):
        with open_engine(path, backend=backend, cache_dir=tmp_path / "cache") as engine:
            for count in (1, 4, 2):
                engine.infer(frames_for(engine, count))
        with watcher.current():
            free.append(watcher.memory()[0])
    watcher.close()
    assert free[-1] >= free[1] - (8 << 20)  # the first rounds load kernels, which stay


def test_the_loop_runs_on_the_gpu(backend: str, tmp_path: Path) -> None:
    script = "from rtseg.realtime.cli import command; command()"
    out = tmp_path / "seg.mp4"
    typed = ["testsrc", str(out), "--max-frames", "20", "--backend", backend, "-q"]
    done = subprocess.run(
        [sys.executable, "-c", script, *typed], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 1000
