"""Planes through the GPU engine on a driver made for the tests; run by ``test_gpu_planes.py``.

The kernels are those of ``kernels.cu``, compiled by NVRTC for the sake of the compiler and run
as the host's C++ compiler made them; the rest is as in :mod:`tests.engines.on_host_driver`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.engines import cuda_pycuda
from rtseg.engines.errors import EngineError
from rtseg.engines.kernels import DevicePicture, Kernels, resize_job
from rtseg.engines.planes import BT601, BT709, Paint, Planes, PlanesEngine, YuvColours
from rtseg.engines.tensorrt_engine import TensorRtEngine
from rtseg.realtime.nearest import scale_nearest
from tests.engines.host_kernels import U8, HostKernels
from tests.engines.networks import TinyNet
from tests.engines.on_host_driver import (  # noqa: F401
    DRIVER,
    PACKAGE,
    Opener,
    frames_for,
    opened,
)

KERNELS = HostKernels(Path("libkernels.so"))
TABLE = np.random.default_rng(5).integers(0, 256, (256, 4), dtype=np.uint8)
TABLE[:, 3] %= 2


def picture(height: int, width: int, interleaved: bool, seed: int = 0) -> Planes:
    """Return noise, with rows that are longer than the picture."""
    random = np.random.default_rng(seed)

    def plane(rows: int, *shape: int) -> U8:
        whole = random.integers(0, 256, (rows, shape[0] + 5, *shape[1:]), dtype=np.uint8)
        return whole[:, : shape[0]]

    half = (height + 1) // 2, (width + 1) // 2
    if interleaved:
        return Planes(plane(height, width), (plane(*half, 2),))
    return Planes(plane(height, width), (plane(*half), plane(*half)))


def network_input(engine: TensorRtEngine, source: Planes, colours: YuvColours) -> U8:
    """Return what the kernel makes of a picture, 1×H×W×3."""
    packed = np.empty(source.size, np.uint8)
    source.pack(packed)
    place = DevicePicture.packed(
        packed.ctypes.data, source.width, source.height, source.interleaved
    )
    spec = engine.spec
    rgb = np.empty((1, spec.height, spec.width, 3), np.uint8)
    job = resize_job(place, colours, rgb.ctypes.data, spec.width, spec.height)
    KERNELS.run("rtseg_resize", (spec.width + 1) // 2, spec.height, job)
    return rgb


def painted(source: Planes, labels: U8, alpha: float) -> list[U8]:
    """Return the samples that painting must give, within one level."""
    channels = [[0], [1, 2]] if source.interleaved else [[0], [1], [2]]
    made = []
    for part, of in zip((source.y, *source.chroma), channels, strict=True):
        ids = scale_nearest(labels, *part.shape[:2])
        colour = TABLE[ids][..., of].reshape(part.shape).astype(float)
        shown = (TABLE[ids][..., 3:] == 1).reshape(*part.shape[:2], *[1] * (part.ndim - 2))
        made.append(np.where(shown, np.rint(part * (1 - alpha) + colour * alpha), part))
    return made


def check(engine: TensorRtEngine, source: Planes, target: Planes, labels: U8, alpha: float) -> None:
    for part, wanted in zip(
        (target.y, *target.chroma), painted(source, labels[0], alpha), strict=True
    ):
        assert np.abs(part - wanted).max() <= 1


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_planes_become_labels_and_a_picture(
    host_engine: TensorRtEngine, data: st.DataObject
) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    source = picture(height, width, data.draw(st.booleans()), data.draw(st.integers(0, 99)))
    colours = data.draw(st.sampled_from([BT601, BT709]))
    alpha = data.draw(st.floats(0, 1))
    target = picture(height, width, source.interleaved, 100)
    handle = host_engine.submit_planes(source, colours, Paint(TABLE, alpha, target))
    labels = host_engine.result(handle)
    expected = host_engine.infer(network_input(host_engine, source, colours))
    assert np.array_equal(labels, expected)
    check(host_engine, source, target, labels, alpha)
    assert handle.timing is not None
    assert min(handle.timing.upload_ms, handle.timing.infer_ms, handle.timing.download_ms) >= 0


@pytest.fixture
def host_engine(opened: Opener) -> TensorRtEngine:  # noqa: F811
    engine = opened(TinyNet())
    assert isinstance(engine, TensorRtEngine)
    return engine


def test_many_are_in_flight_between_other_inferences(host_engine: TensorRtEngine) -> None:
    engine = host_engine
    assert isinstance(engine, PlanesEngine)
    frames = frames_for(engine, 1)
    plain = engine.infer(frames)
    jobs = []
    for number in range(12):
        source = picture(20 + 7 * number, 90 - 5 * number, number % 2 == 0, number)
        target = picture(20 + 7 * number, 90 - 5 * number, number % 2 == 0, 50)
        paint = None if number % 3 == 0 else Paint(TABLE, 0.5, target)
        jobs.append((source, target, paint, engine.submit_planes(source, BT709, paint)))
        assert np.array_equal(engine.infer(frames), plain)
    for source, target, paint, handle in reversed(jobs):
        before = target.y.copy()
        labels = engine.result(handle)
        assert np.array_equal(labels, engine.infer(network_input(engine, source, BT709)))
        if paint is not None:
            check(engine, source, target, labels, 0.5)
        else:
            assert np.array_equal(target.y, before)


def test_the_target_may_be_the_source(host_engine: TensorRtEngine) -> None:
    source, kept = picture(33, 47, True), picture(33, 47, True)
    labels = host_engine.result(host_engine.submit_planes(source, BT601, Paint(TABLE, 0.7, source)))
    check(host_engine, kept, source, labels, 0.7)


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        ("cuLaunchKernel", 700, "DEVICE_LOST"),
        ("cuMemcpyHtoDAsync", 1, "ENGINE_FAILED"),
        ("cuMemcpyDtoHAsync", 719, "DEVICE_LOST"),
        ("cuMemAlloc", 2, "NO_MEMORY"),
        ("cuMemHostAlloc", 2, "NO_MEMORY"),
    ],
)
def test_what_fails_is_one_line_and_is_over(
    host_engine: TensorRtEngine, call: str, code: int, reason: str
) -> None:
    small, large = picture(20, 20, False), picture(60, 60, False)
    expected = host_engine.result(host_engine.submit_planes(small, BT601))
    DRIVER.fail(call, code)
    with pytest.raises(EngineError) as caught:
        host_engine.result(host_engine.submit_planes(large, BT601, Paint(TABLE, 0.5, large)))
    assert caught.value.reason == reason
    assert call in str(caught.value)
    DRIVER.fail("", 0)
    for _ in range(3):  # every slot
        labels = host_engine.result(host_engine.submit_planes(small, BT601))
        assert np.array_equal(labels, expected)


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        ("cuModuleLoadData", 209, "ENGINE_FAILED"),
        ("cuModuleLoadData", 2, "NO_MEMORY"),
        ("cuModuleGetFunction", 500, "ENGINE_FAILED"),
    ],
)
def test_kernels_that_do_not_load_leave_the_engine(
    host_engine: TensorRtEngine, call: str, code: int, reason: str
) -> None:
    modules = DRIVER.live()["modules"]
    DRIVER.fail(call, code)
    with pytest.raises(EngineError) as caught:
        host_engine.prepare_planes()
    assert caught.value.reason == reason
    assert DRIVER.live()["modules"] == modules
    host_engine.infer(frames_for(host_engine))
    DRIVER.fail("", 0)
    host_engine.prepare_planes()
    assert DRIVER.live()["modules"] == modules + 1
    host_engine.prepare_planes()
    assert DRIVER.live()["modules"] == modules + 1


def test_a_failure_that_the_driver_has_no_text_for_is_one_line(
    host_engine: TensorRtEngine,
) -> None:
    DRIVER.fail("cuModuleLoadData", 999)
    with pytest.raises(EngineError, match=r"^the GPU failed \((cuM|m)odule.*: .*\)") as caught:
        host_engine.prepare_planes()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(PACKAGE != "pycuda", reason="only PyCUDA calls a compiler by its path")
def test_without_a_compiler_the_engine_says_what_is_needed(
    host_engine: TensorRtEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_pycuda, "find_nvcc", lambda: "/nowhere/nvcc")
    with pytest.raises(EngineError, match=r"PyCUDA needs nvcc \(.*/nowhere/nvcc") as caught:
        host_engine.prepare_planes()
    assert caught.value.reason == "BACKEND_MISSING"
    host_engine.infer(frames_for(host_engine))


@pytest.mark.parametrize(("kernel", "said"), [("paint", "paint wrongly"), ("resize", "resize")])
def test_kernels_that_do_something_else_are_found_out(
    host_engine: TensorRtEngine, monkeypatch: pytest.MonkeyPatch, kernel: str, said: str
) -> None:
    modules = DRIVER.live()["modules"]
    with monkeypatch.context() as patched:
        patched.setattr(Kernels, kernel, lambda *_: None)
        with pytest.raises(EngineError, match=f"kernels {said}") as caught:
            host_engine.prepare_planes()
    assert caught.value.reason == "ENGINE_FAILED"
    assert DRIVER.live()["modules"] == modules
    host_engine.prepare_planes()


def test_wrong_planes_are_refused(host_engine: TensorRtEngine) -> None:
    good, other = picture(20, 30, True), picture(20, 30, False)
    for paint in (Paint(TABLE, 0.5, other), Paint(TABLE, 1.5, good), Paint(TABLE[:19], 0.5, good)):
        with pytest.raises(EngineError, match="Received: ") as caught:
            host_engine.submit_planes(good, BT601, paint)
        assert caught.value.reason == "BAD_INPUT"


def test_a_closed_engine_takes_none(host_engine: TensorRtEngine) -> None:
    handle = host_engine.submit_planes(picture(20, 30, True), BT601)
    host_engine.result(handle)
    with pytest.raises(EngineError, match="taken already"):
        host_engine.result(handle)
    host_engine.close()
    for call in (
        host_engine.prepare_planes,
        lambda: host_engine.submit_planes(picture(20, 30, True), BT601),
    ):
        with pytest.raises(EngineError) as caught:
            call()
        assert caught.value.reason == "ENGINE_CLOSED"
