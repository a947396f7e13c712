"""What every engine must do, over every backend and several networks."""

from __future__ import annotations

import gc
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.engines.engine import Engine, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.registry import open_engine
from tests.engines.failing import bad_frames, save_failing_network
from tests.engines.networks import (
    TinyNet,
    assert_labels_of,
    normalise,
    random_frames,
    upsample,
)
from tests.engines.reference import MEHTA, reference_network

BACKENDS = ["openvino", "onnxruntime"]
NETWORKS = ["ours", "foreign", "foreign-nhwc", "reference"]

Opener = Callable[..., Engine]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip(name)
    return name


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "ours":
        return TinyNet().save_ours(tmp_path / "ours.onnx")
    if request.param == "foreign":
        return TinyNet(dynamic=("n",)).save(tmp_path / "foreign.onnx")
    if request.param == "foreign-nhwc":
        return TinyNet(layout="nhwc", end="nhwc").save(tmp_path / "nhwc.onnx")
    return reference_network(MEHTA, tmp_path)


@pytest.fixture
def engine(backend: str, network: Path, tmp_path: Path) -> Iterator[Engine]:
    with open_engine(network, backend=backend, precision="fp32", cache_dir=tmp_path) as opened:
        yield opened


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


def frames_for(engine: Engine, count: int = 1, seed: int = 0) -> np.ndarray[Any, Any]:
    spec = engine.spec
    return random_frames(TinyNet(height=spec.height, width=spec.width), count, seed)


def test_labels_have_the_shape_type_and_range_of_the_contract(engine: Engine) -> None:
    labels = engine.infer(frames_for(engine))
    assert labels.dtype == np.uint8
    assert labels.shape == (1, engine.spec.height, engine.spec.width)
    assert labels.max() < len(engine.spec.classes)


def test_the_same_frame_gives_the_same_labels(engine: Engine) -> None:
    frames = frames_for(engine)
    assert np.array_equal(engine.infer(frames), engine.infer(frames.copy()))


def test_the_profile_says_what_it_runs_on(engine: Engine, backend: str) -> None:
    profile = engine.profile()
    assert profile.backend == backend
    assert profile.precision == "fp32"
    assert profile.device
    assert profile.runtime_version[0].isdigit()
    assert profile.requests == engine.requests >= 2
    assert profile.threads >= 1


def test_results_may_be_taken_in_any_order(opened: Opener) -> None:
    engine = opened(TinyNet())
    batches = [frames_for(engine, seed=seed) for seed in range(6)]
    expected = [engine.infer(frames) for frames in batches]
    handles = [engine.submit(frames) for frames in batches]
    for index in (3, 0, 5, 1, 4, 2):
        assert np.array_equal(engine.result(handles[index]), expected[index])


def test_labels_are_those_of_numpy(opened: Opener) -> None:
    net = TinyNet()
    engine = opened(net)
    frames = random_frames(net, 3)
    labels = engine.infer(frames)
    for frame, found in zip(frames, labels, strict=True):
        assert_labels_of(found, upsample(net.logits(normalise(frame)), net.height, net.width))


def test_a_batch_is_its_frames(engine: Engine) -> None:
    frames = frames_for(engine, 2)
    handle = engine.submit(frames)
    labels = engine.result(handle)
    assert labels.shape == (2, engine.spec.height, engine.spec.width)
    assert np.array_equal(labels[:1], engine.infer(frames[:1]))
    assert np.array_equal(labels[1:], engine.infer(frames[1:]))


def test_a_batch_larger_than_the_requests_does_not_hang(opened: Opener) -> None:
    engine = opened(TinyNet(), requests=2)
    assert engine.infer(frames_for(engine, 9)).shape[0] == 9


def test_submit_never_waits_for_a_result_to_be_taken(opened: Opener) -> None:
    engine = opened(TinyNet(), requests=2)
    frames = frames_for(engine)
    expected = engine.infer(frames)
    handles = [engine.submit(frames) for _ in range(8)]
    assert all(np.array_equal(engine.result(handle), expected) for handle in handles)


def test_one_thread_submits_and_another_takes_results(opened: Opener) -> None:
    engine = opened(TinyNet())
    batches = [frames_for(engine, seed=seed) for seed in range(12)]
    expected = [engine.infer(frames) for frames in batches]
    handles: queue.Queue[Handle] = queue.Queue(2)
    found = []

    def take() -> None:
        for _ in batches:
            found.append(engine.result(handles.get(timeout=30)))

    taker = threading.Thread(target=take)
    taker.start()
    for frames in batches:
        handles.put(engine.submit(frames), timeout=30)
    taker.join(30)
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_many_threads_may_share_an_engine(opened: Opener) -> None:
    engine = opened(TinyNet())
    batches = [frames_for(engine, seed=seed) for seed in range(4)]
    expected = [engine.infer(frames) for frames in batches]
    wrong = []

    def work(index: int) -> None:
        for _ in range(10):
            if not np.array_equal(engine.infer(batches[index]), expected[index]):
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not wrong


def test_timing_is_the_computation_alone(opened: Opener) -> None:
    engine = opened(TinyNet(height=256, width=256, channels=32), mode="latency", requests=2)
    frames = frames_for(engine)
    handles = [engine.submit(frames) for _ in range(8)]
    assert all(handle.timing is None for handle in handles)
    for handle in handles:
        engine.result(handle)
    times_ms = [handle.timing.infer_ms for handle in handles if handle.timing]
    assert len(times_ms) == 8
    assert all(time_ms > 0 for time_ms in times_ms)
    for handle in handles:
        assert handle.timing is not None
        assert 0 <= handle.timing.beside_ms < handle.timing.infer_ms
    # Eight after each other on one lane: with the wait in it, the last would have all of them.
    assert times_ms[-1] < sum(times_ms) * 0.9


def test_labels_belong_to_the_caller(opened: Opener) -> None:
    engine = opened(TinyNet(), requests=2)
    first = engine.infer(frames_for(engine, seed=1))
    kept = first.copy()
    for seed in range(2, 7):
        engine.infer(frames_for(engine, seed=seed))
    assert np.array_equal(first, kept)
    assert first.flags.writeable
    first[:] = 77
    assert (engine.infer(frames_for(engine, seed=1)) == kept).all()


def test_frames_may_be_read_only_or_a_view(opened: Opener) -> None:
    engine = opened(TinyNet())
    frames = frames_for(engine)
    expected = engine.infer(frames)
    mirrored = np.ascontiguousarray(frames[:, :, ::-1])[:, :, ::-1]
    assert not mirrored.flags.c_contiguous
    assert np.array_equal(engine.infer(mirrored), expected)
    frames.flags.writeable = False
    assert np.array_equal(engine.infer(frames), expected)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 32, 48, 4), "uint8"),
        ((1, 48, 32, 3), "uint8"),
        ((32, 48, 3), "uint8"),
        ((1, 3, 32, 48), "uint8"),
        ((0, 32, 48, 3), "uint8"),
        ((1, 32, 48, 3), "float32"),
    ],
)
def test_wrong_frames_are_refused(opened: Opener, shape: tuple[int, ...], dtype: str) -> None:
    engine = opened(TinyNet())
    with pytest.raises(EngineError, match="Received") as caught:
        engine.submit(np.zeros(shape, dtype))
    assert caught.value.reason == "BAD_INPUT"
    assert engine.infer(frames_for(engine)).shape == (1, 32, 48)  # and it still works


def test_a_result_is_taken_once_and_from_its_own_engine(opened: Opener) -> None:
    engine, other = opened(TinyNet()), opened(TinyNet())
    handle = engine.submit(frames_for(engine))
    with pytest.raises(EngineError, match="not one of this engine"):
        other.result(handle)
    engine.result(handle)
    with pytest.raises(EngineError, match="taken already"):
        engine.result(handle)


def test_use_after_close_is_refused(opened: Opener) -> None:
    engine = opened(TinyNet())
    frames = frames_for(engine)
    handle = engine.submit(frames)
    engine.close()
    engine.close()
    for use in (lambda: engine.submit(frames), lambda: engine.result(handle)):
        with pytest.raises(EngineError, match="closed") as caught:
            use()
        assert caught.value.reason == "ENGINE_CLOSED"
    assert engine.spec.width == 48  # what it was can still be asked


def test_close_ends_a_submit_that_waits(opened: Opener) -> None:
    engine = opened(TinyNet(height=256, width=256, channels=32), requests=2)
    frames = frames_for(engine)
    ended = threading.Event()

    def submit_for_ever() -> None:
        while True:
            engine.submit(frames)

    def keep_submitting() -> None:
        with pytest.raises(EngineError, match="closed"):
            submit_for_ever()
        ended.set()

    submitter = threading.Thread(target=keep_submitting)
    submitter.start()
    engine.result(engine.submit(frames))
    engine.close()
    submitter.join(30)
    assert ended.is_set()


def test_close_frees_the_engine(opened: Opener, backend: str, tmp_path: Path) -> None:
    path = TinyNet().save_ours(tmp_path / "freed.onnx")
    engine = open_engine(path, backend=backend, precision="fp32", cache_dir=tmp_path)
    frames = frames_for(engine)
    engine.infer(frames)
    threads = threading.active_count()
    gone = weakref.ref(engine)
    engine.close()
    assert threading.active_count() <= threads
    del engine
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_that_is_broken_says_so_when_it_opens(opened: Opener, value: float) -> None:
    with pytest.raises(EngineError, match="not finite") as caught:
        opened(TinyNet(bias={4: value}))
    assert caught.value.reason == "BAD_OUTPUT"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("precision", "quantised"), [(None, False), ("fp32", False), (None, True)])
def test_a_single_frame_whose_scores_are_not_numbers_is_caught(
    opened: Opener, precision: str | None, quantised: bool
) -> None:
    net = TinyNet(root=True, quantised=quantised)
    engine = opened(net, precision=precision)
    dark = np.zeros((1, net.height, net.width, 3), np.uint8)
    half_bright = dark.copy()
    half_bright[:, :8, :8] = 255
    handles = [engine.submit(frames) for frames in (dark, half_bright, dark)]
    engine.result(handles[0])
    with pytest.raises(EngineError, match="not finite") as caught:
        engine.result(handles[1])
    assert caught.value.reason == "BAD_OUTPUT"
    engine.result(handles[2])


def test_a_tall_and_a_small_network_work(opened: Opener) -> None:
    for height, width in ((160, 32), (32, 32)):
        engine = opened(TinyNet(height=height, width=width))
        assert engine.infer(frames_for(engine)).shape == (1, height, width)


@pytest.mark.parametrize("mode", ["latency", "throughput"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_mode_and_thread_count_gives_the_same(
    opened: Opener, mode: str, threads: int
) -> None:
    net = TinyNet()
    engine = opened(net, mode=mode, threads=threads, requests=3)
    assert engine.profile().threads == threads
    assert engine.requests == 3
    frames = random_frames(net)
    scores = upsample(net.logits(normalise(frames[0])), net.height, net.width)
    assert_labels_of(engine.infer(frames)[0], scores)


def test_a_failed_frame_is_an_error_and_the_engine_goes_on(backend: str, tmp_path: Path) -> None:
    path = save_failing_network(tmp_path / "failing.onnx")
    with open_engine(path, backend=backend, precision="fp32", cache_dir=tmp_path) as engine:
        good = np.zeros((1, 32, 32, 3), np.uint8)
        batches = [bad_frames(0), good, bad_frames(1), bad_frames(2), bad_frames(3), good]
        handles = [engine.submit(frames) for frames in batches]
        for handle, frames in zip(handles, batches, strict=True):
            if frames is good:
                assert not engine.result(handle).any()
                continue
            with pytest.raises(EngineError) as caught:
                engine.result(handle)
            assert caught.value.reason == "ENGINE_FAILED"
            assert "\n" not in str(caught.value)
