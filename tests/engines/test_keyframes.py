"""Key frames: the network on some frames, its labels moved along on the others."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.engines.engine import Engine, EngineProfile, EngineTiming, Handle
from rtseg.engines.errors import EngineError
from rtseg.engines.keyframes import KeyframeEngine
from rtseg.engines.labels import ClassTable
from rtseg.engines.spec import EngineSpec

U8 = NDArray[np.uint8]
HEIGHT, WIDTH = 128, 256


class RedEngine(Engine):
    """Class 1 where red is over 200, else class 0."""

    def __init__(self, *, fail_at: int | None = None) -> None:
        classes = ClassTable(("rest", "red"), ((0, 0, 0), (255, 0, 0)))
        self._spec = EngineSpec("red", HEIGHT, WIDTH, classes)
        self._fail_at = fail_at
        self.runs = 0
        self.closed = False

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    @property
    def requests(self) -> int:
        return 2

    def submit(self, frames: U8) -> Handle:
        self.check_frames(frames)
        self.runs += 1
        return Handle((frames, self.runs))

    def result(self, handle: Handle) -> U8:
        frames, run = handle.payload  # type: ignore[misc]
        if run == self._fail_at:
            raise EngineError("the device was lost", reason="ENGINE_FAILED")
        handle.timing = EngineTiming(infer_ms=5.0)
        labels: U8 = (frames[..., 0] > 200).astype(np.uint8)
        return labels

    def profile(self) -> EngineProfile:
        return EngineProfile("test", "none", "fp32", "1", 2, 1)

    def close(self) -> None:
        self.closed = True


def street(shift: int) -> U8:
    """Return textured ground with a red block, all moved right by ``shift`` pixels."""
    random = np.random.default_rng(3)
    coarse = random.integers(40, 160, (HEIGHT // 8, WIDTH // 4, 1), np.uint8)
    wide = coarse.repeat(8, 0).repeat(8, 1).repeat(3, 2)
    wide[40:90, 180:240] = (255, 60, 60)
    start = 120 - shift
    return np.ascontiguousarray(wide[:, start : start + WIDTH])[None]


def block_centre(labels: U8) -> float:
    return float(np.nonzero(labels)[1].mean())


def test_labels_follow_what_moves() -> None:
    inner = RedEngine()
    with KeyframeEngine(inner, 4) as engine:
        found = [engine.result(engine.submit(street(5 * step)))[0] for step in range(4)]
    assert inner.runs == 1
    exact = [RedEngine().infer(street(5 * step))[0] for step in range(4)]
    for labels, wanted in zip(found, exact, strict=True):
        assert block_centre(labels) == pytest.approx(block_centre(wanted), abs=2)
        assert (labels == wanted).mean() > 0.97
    assert (found[0] == exact[3]).mean() < 0.96, "had it not moved, this test would show nothing"


@pytest.mark.parametrize(("every", "frames", "runs"), [(2, 7, 4), (3, 7, 3), (5, 5, 1), (2, 1, 1)])
def test_every_nth_frame_is_a_key_frame(every: int, frames: int, runs: int) -> None:
    inner = RedEngine()
    with KeyframeEngine(inner, every) as engine:
        handles = [engine.submit(street(0)) for _ in range(frames)]
        for handle in handles:
            assert engine.result(handle).shape == (1, HEIGHT, WIDTH)
            assert handle.timing is not None
    assert inner.runs == runs
    assert inner.closed


def test_a_moved_map_takes_none_of_the_places_of_the_engine() -> None:
    with KeyframeEngine(RedEngine(), 2) as engine:
        handles = [engine.submit(street(4 * step)) for step in range(4)]
        for handle in handles:
            engine.result(handle)
        timings = [handle.timing for handle in handles if handle.timing is not None]
    assert [timing.infer_ms - timing.beside_ms for timing in timings] == [5.0, 0.0, 5.0, 0.0]
    assert all(timing.infer_ms > 0 for timing in timings)


def test_results_in_any_order() -> None:
    with KeyframeEngine(RedEngine(), 3) as engine:
        handles = [engine.submit(street(4 * step)) for step in range(6)]
        backwards = [engine.result(handle)[0] for handle in reversed(handles)][::-1]
    with KeyframeEngine(RedEngine(), 3) as engine:
        forwards = [engine.result(engine.submit(street(4 * step)))[0] for step in range(6)]
    np.testing.assert_array_equal(backwards, forwards)


def test_a_batch_is_that_many_frames_of_the_video() -> None:
    inner = RedEngine()
    with KeyframeEngine(inner, 2) as engine:
        batch = np.concatenate([street(4 * step) for step in range(4)])
        assert engine.result(engine.submit(batch)).shape == (4, HEIGHT, WIDTH)
    assert inner.runs == 2


def test_a_new_scene_is_a_key_frame() -> None:
    inner = RedEngine()
    with KeyframeEngine(inner, 10) as engine:
        engine.result(engine.submit(street(0)))
        other = np.full((1, HEIGHT, WIDTH, 3), 250, np.uint8)
        assert engine.result(engine.submit(other)).all()
        engine.result(engine.submit(other))
    assert inner.runs == 2


def test_the_first_frame_after_other_pictures_is_a_key_frame() -> None:
    """As the first of a video, after the gray pictures of the warm-up that are not unlike it."""
    inner = RedEngine()
    with KeyframeEngine(inner, 4) as engine:
        gray = np.full((1, HEIGHT, WIDTH, 3), 127, np.uint8)
        engine.result(engine.submit(gray))
        engine.forget()
        engine.result(engine.submit(gray + 5))
    assert inner.runs == 2


def test_pictures_beside_the_video_do_not_disturb_it() -> None:
    inner = RedEngine()
    with KeyframeEngine(inner, 3) as engine:
        for _ in range(3):
            engine.infer(street(90))
        first = engine.result(engine.submit(street(0)))
    np.testing.assert_array_equal(first, RedEngine().infer(street(0)))


def test_a_result_belongs_to_the_caller() -> None:
    with KeyframeEngine(RedEngine(), 3) as engine:
        first = engine.result(engine.submit(street(0)))
        kept = first.copy()
        first[:] = 9
        np.testing.assert_array_equal(engine.result(engine.submit(street(0))), kept)


def test_a_key_frame_that_fails_fails_its_followers() -> None:
    with KeyframeEngine(RedEngine(fail_at=1), 2) as engine:
        handles = [engine.submit(street(0)) for _ in range(3)]
        for handle in handles[:2]:
            with pytest.raises(EngineError) as caught:
                engine.result(handle)
            assert caught.value.reason == "ENGINE_FAILED"
        assert engine.result(handles[2]).any(), "the next key frame is a fresh start"


def test_what_cannot_be_meant() -> None:
    with pytest.raises(EngineError, match=r"every 2nd or fewer\. Received: 1"):
        KeyframeEngine(RedEngine(), 1)
    engine = KeyframeEngine(RedEngine(), 2)
    handle = engine.submit(street(0))
    engine.result(handle)
    with pytest.raises(EngineError, match="taken already"):
        engine.result(handle)
    with pytest.raises(EngineError, match="at least one frame"):
        engine.submit(np.empty((0, HEIGHT, WIDTH, 3), np.uint8))
    engine.close()
    with pytest.raises(EngineError, match="closed") as caught:
        engine.submit(street(0))
    assert caught.value.reason == "ENGINE_CLOSED"


def test_the_profile_says_it() -> None:
    inner = RedEngine()
    inner.quality = "fast"
    with KeyframeEngine(inner, 3) as engine:
        assert engine.profile().quality == "fast; network on one frame in 3"
        assert engine.requests == inner.requests
        assert engine.spec is inner.spec
