"""The Python interface: what it yields, and that nothing outlives who uses it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtseg.engines.errors import EngineError
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.engines.registry import open_engine
from rtseg.engines.spec import EngineSpec
from rtseg.realtime import Segmenter
from rtseg.realtime.api import _HandOver
from rtseg.realtime.delivery import Delivery, Job, SinkWorker
from rtseg.realtime.errors import SourceError
from rtseg.realtime.frame import Rendered
from rtseg.realtime.nearest import scale_nearest
from rtseg.realtime.profile import Profiler
from rtseg.realtime.sinks.sink import SinkContext
from rtseg.realtime.slot import DropPolicy
from rtseg.realtime.throttle import FlowOptions
from rtseg.realtime.view import ViewOptions
from tests.engines.networks import TinyNet
from tests.media import make_video
from tests.realtime.parts import GraySource


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("api") / "drive.mp4", frames=12, size=(320, 180))


def loops() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rtseg-")]


def test_a_file_gives_every_frame(clip: Path) -> None:
    profiler = Profiler()
    with Segmenter() as segment:
        results = list(segment.stream(clip, profiler=profiler))
    assert [result.index for result in results] == list(range(12))
    for result in results:
        assert result.labels.shape == (180, 320)
        assert result.overlay.shape == (180, 320, 3)
        assert {"decode", "preprocess", "infer"} <= set(result.stages_ms)
    assert (profiler.frames_in, profiler.frames_out, profiler.dropped) == (12, 12, {})
    assert loops() == []


def test_frames_of_a_live_source_have_a_time_of_day(clip: Path) -> None:
    graph = "lavfi:testsrc=size=64x48:rate=50,realtime"
    flow = FlowOptions(max_frames=3)
    with Segmenter() as segment:
        assert [result.captured_at for result in segment.stream(clip, flow=flow)] == [None] * 3
        for result in segment.stream(graph, flow=flow):
            assert result.captured_at is not None
            assert result.captured_at.utcoffset() == timedelta(0)
            assert result.captured_at < datetime.now(timezone.utc)


def test_arrays() -> None:
    with Segmenter() as segment:
        image = np.full((90, 160, 3), 90, np.uint8)
        assert segment(image).shape == (90, 160)
        assert segment.overlay(image).shape == (90, 160, 3)


def test_frames_that_keep_their_shape(tmp_path: Path, clip: Path) -> None:
    """One way for a stream and for arrays: padded on the way in, cut out on the way back."""
    path = TinyNet().save(tmp_path / "net.onnx")
    (tmp_path / "net.onnx.json").write_text(json.dumps({"pad": 114}))
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with (
        Segmenter(path, precision="fp32") as segment,
        open_engine(path, precision="fp32") as engine,
    ):
        results = list(segment.stream(clip))
        for frame, result in zip(frames, results, strict=True):
            inside = array_to_engine_input(frame, 27, 48)  # 320x180 in 48x32
            pixels = np.full((1, 32, 48, 3), 114, np.uint8)
            pixels[0, 2:29] = inside
            expected = scale_nearest(engine.infer(pixels)[0, 2:29], 180, 320)
            np.testing.assert_array_equal(segment(frame), expected)
            assert (result.labels == expected).mean() > 0.9  # not by way of RGB
        assert len(np.unique(expected)) > 1


@pytest.mark.parametrize(
    ("size", "pixel_aspect", "rotation", "shape"),
    [
        ((240, 320), 2, 0, (448, 672)),  # every second column stored: 480x320 on screen
        ((240, 320), 1, 0, (448, 386)),
        ((320, 480), 2, 90, (448, 386)),  # turned: 480x320 of pixels twice as high as wide
    ],
)
def test_pixels_that_are_not_square(
    tmp_path: Path,
    size: tuple[int, int],
    pixel_aspect: int,
    rotation: int,
    shape: tuple[int, int],
) -> None:
    clip = make_video(tmp_path / "dvr.mp4", 1, size, pixel_aspect=pixel_aspect, rotation=rotation)
    with Segmenter(input_size=(672, 448)) as segment:
        (result,) = segment.stream(clip)
    assert result.raw_labels.shape == shape
    assert result.labels.shape == result.image.shape[:2]


def test_narrow_pictures_have_an_input_of_their_shape(tmp_path: Path) -> None:
    phone = make_video(tmp_path / "phone.mp4", 1, (96, 128))
    with Segmenter(quality="fast") as segment:
        (narrow,) = segment.stream(phone)
        height, width = narrow.raw_labels.shape
        assert 0.94 <= height * width / (448 * 352) <= 1.03
        assert width / height == pytest.approx(0.75 * 96 / 128, rel=0.1)  # in steps of 32
        assert segment(narrow.image).shape == (128, 96)
        (wide,) = segment.stream(make_video(tmp_path / "drive.mp4", 1))
        assert wide.raw_labels.shape == (352, 448)
        with open_engine(size=(width, height), mode="latency") as engine:
            pixels = array_to_engine_input(narrow.image, height, width)
            expected = scale_nearest(engine.infer(pixels[None])[0], 128, 96)
        np.testing.assert_array_equal(segment(narrow.image), expected)


def test_narrow_pictures_in_an_engine_of_the_users(tmp_path: Path) -> None:
    path = TinyNet().save(tmp_path / "net.onnx")
    (tmp_path / "net.onnx.json").write_text(json.dumps({"pad": 114}))
    with Segmenter(path, precision="fp32") as segment:
        (result,) = segment.stream(make_video(tmp_path / "phone.mp4", 1, (64, 96)))
    assert result.raw_labels.shape == (32, 21)


def test_an_array_and_its_overlay_side_by_side() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8)
    with Segmenter() as over, Segmenter(view=ViewOptions(view="side-by-side")) as both:
        picture = both.overlay(image)
        assert np.array_equal(picture, np.hstack([image, over.overlay(image)]))


def test_image_and_overlay_have_the_same_colours(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "hd.mkv", frames=1, size=(1280, 64))
    with Segmenter(view=ViewOptions(view="input", hud=False)) as segment:
        (result,) = segment.stream(clip)
    apart = np.abs(result.image.astype(int) - result.overlay)
    assert apart.mean() < 1


def test_leaving_early_ends_the_loop(clip: Path) -> None:
    profiler = Profiler()
    with Segmenter() as segment:
        for result in segment.stream(str(clip), profiler=profiler):
            if result.index == 2:
                break
        del result
        assert loops() == []
    assert profiler.frames_in == profiler.frames_out + sum(profiler.dropped.values())


def test_closing_the_segmenter_ends_its_streams() -> None:
    segment = Segmenter()
    stream = segment.stream("testsrc")
    next(stream)
    segment.close()
    assert loops() == []
    assert list(stream) == []


def test_closing_waits_for_an_engine_that_is_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segmenter(quality="fast")
    open_, begun, go_on, opened = segment._open, threading.Event(), threading.Event(), []

    def slowly(**options: Any) -> Any:
        begun.set()
        go_on.wait(20)
        opened.append(open_(**options))
        return opened[0]

    def portrait() -> None:
        with contextlib.suppress(EngineError):  # closed before it could be used
            segment(np.zeros((96, 64, 3), np.uint8))

    monkeypatch.setattr(segment, "_open", slowly)
    threads = [threading.Thread(target=portrait), threading.Thread(target=segment.close)]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    time.sleep(0.1)
    go_on.set()
    for thread in threads:
        thread.join(20)
    spec = opened[0].spec
    with pytest.raises(EngineError):
        opened[0].infer(np.zeros((1, spec.height, spec.width, 3), np.uint8))


def test_a_closed_segmenter_opens_nothing_again() -> None:
    segment = Segmenter()
    segment.close()
    segment.close()
    for use in (lambda: segment(np.zeros((8, 8, 3), np.uint8)), lambda: segment.classes):
        with pytest.raises(EngineError, match="the segmenter is closed"):
            use()
    with pytest.raises(EngineError, match="the segmenter is closed"):
        next(segment.stream("testsrc"))
    assert loops() == []


def test_a_source_that_is_not_there() -> None:
    with Segmenter() as segment, pytest.raises(SourceError, match=r"nowhere\.mp4"):
        next(segment.stream("nowhere.mp4"))
    assert loops() == []


def test_a_program_ends_with_a_stream_in_its_hands() -> None:
    code = """
from rtseg.realtime import Segmenter
segment = Segmenter()
stream = segment.stream("testsrc")
next(stream)
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("newest", "expected"), [(True, [4, 5]), (False, [0, 1])])
def test_who_asks_gets_the_newest_frame_of_a_live_source(newest: bool, expected: list[int]) -> None:
    """Not one that has been waiting since the last time, nor one that waits behind it."""
    hand_over, profiler = _HandOver(newest=newest), Profiler()
    errors: list[BaseException] = []
    policy: DropPolicy = "latest" if newest else "block"
    worker = SinkWorker(hand_over, policy, 1 if newest else 6, errors.append)
    source = GraySource(6)
    worker.start(SinkContext(source.info, EngineSpec("net", 4, 4), 4, 4))
    items = [Rendered(frame, np.zeros((4, 4), np.uint8), None) for frame in source.frames()]

    def give(item: Rendered) -> None:
        profiler.frame_in(item.frame.captured_ns)
        worker.take(Job(Delivery(item, 1, profiler), item))

    for item in items[:5]:
        give(item)
    time.sleep(0.2)
    hand_over.wanted.set()
    first = hand_over.slot.get(10)
    give(items[5])
    time.sleep(0.2)
    hand_over.wanted.set()
    second = hand_over.slot.get(10)
    worker.finish(None)
    hand_over.slot.close()
    hand_over.wanted.set()
    worker.thread.join(10)
    assert not worker.thread.is_alive()
    assert first is not None
    assert second is not None
    assert [first.frame.index, second.frame.index] == expected


@pytest.mark.parametrize("image", ["street.png", None, [[0, 0, 0]]])
def test_what_is_no_array_is_told(image: Any) -> None:
    with Segmenter() as segment, pytest.raises(EngineError, match="NumPy array") as caught:
        segment(image)
    assert caught.value.reason == "BAD_INPUT"
