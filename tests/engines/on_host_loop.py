"""The loop with an engine that paints, on a driver made for the tests; see ``on_host_planes``."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rtseg.engines.errors import EngineError
from rtseg.engines.tensorrt_engine import TensorRtEngine
from rtseg.realtime.controls import Controls
from rtseg.realtime.frame import Rendered
from rtseg.realtime.hud import HudText
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.refine import Refiner, Seen
from rtseg.realtime.view import View, ViewOptions
from rtseg.realtime.yuv import planes_420
from tests.engines.on_host_driver import DRIVER, opened  # noqa: F401
from tests.engines.on_host_planes import host_engine  # noqa: F401
from tests.realtime.parts import ListSink, StreetSource


@pytest.fixture
def painted(host_engine: TensorRtEngine) -> list[int]:  # noqa: F811
    """Which frames' planes the engine was given, counted."""
    submit, count = host_engine.submit_planes, [0]

    def submit_planes(*arguments: Any) -> Any:
        count[0] += 1
        return submit(*arguments)

    host_engine.submit_planes = submit_planes  # type: ignore[method-assign]
    return count


def run(
    engine: TensorRtEngine, source: StreetSource, renderer: Renderer, **more: Any
) -> list[Rendered]:
    sink = ListSink(wants_picture=True)
    Pipeline(source, engine, renderer, [sink], **more).run()
    return sink.items


def alike(item: Rendered, renderer: Renderer, view: ViewOptions | None = None) -> bool:
    """Return whether a picture is what the renderer makes of the item's labels."""
    assert item.picture is not None
    wanted = renderer.render(item.frame, item.labels, options=view)
    assert (item.picture.pts, item.picture.time_base) == (wanted.pts, wanted.time_base)
    assert item.picture.colorspace == wanted.colorspace
    assert item.picture.color_range == wanted.color_range
    if (item.picture.width, item.picture.height) != (wanted.width, wanted.height):
        return False
    return all(
        np.abs(found.astype(int) - other).max() <= 1
        for found, other in zip(planes_420(item.picture), planes_420(wanted), strict=True)
    )


@pytest.mark.parametrize("layout", ["yuv420p", "yuvj420p", "nv12"])
@pytest.mark.parametrize(
    "view",
    [
        ViewOptions(),
        ViewOptions("mask", classes=(0, 2)),
        ViewOptions(alpha=0.8, ignore_classes=(1,), legend=True, hud=True),
    ],
)
def test_pictures_are_the_renderers(
    host_engine: TensorRtEngine,  # noqa: F811
    painted: list[int],
    layout: str,
    view: ViewOptions,
) -> None:
    renderer = Renderer(host_engine.spec.classes, view)
    renderer.hud_text = HudText(("25.0 frames/s", "3.1 ms"))
    items = run(host_engine, StreetSource(12, layout), renderer)
    assert [item.frame.index for item in items] == list(range(12))
    assert painted == [12]
    for item in items:
        assert alike(item, renderer)
        assert {"preprocess", "infer", "render"} <= set(item.stages_ms)
        assert item.labels.shape == (host_engine.spec.height, host_engine.spec.width)


def test_labels_are_nearly_those_of_the_other_way(
    host_engine: TensorRtEngine,  # noqa: F811
) -> None:
    renderer = Renderer(host_engine.spec.classes)
    one = run(host_engine, StreetSource(8, "nv12"), renderer)

    class Nothing(Refiner):
        def push(self, seen: Seen) -> list[Seen]:
            return [seen]

    other = run(host_engine, StreetSource(8, "nv12"), renderer, refiner=Nothing())
    for mine, theirs in zip(one, other, strict=True):
        assert (mine.labels == theirs.labels).mean() > 0.9  # swscale rounds down


def test_what_only_the_cpu_can_do_goes_there(
    host_engine: TensorRtEngine,  # noqa: F811
    painted: list[int],
) -> None:
    renderer = Renderer(host_engine.spec.classes)
    items = run(host_engine, StreetSource(9, "yuv420p", "yuv444p", "nv12"), renderer)
    assert painted == [6]
    assert [item.frame.index for item in items] == list(range(9))
    assert all(alike(item, renderer) for item in items)

    class Other(Refiner):
        def push(self, seen: Seen) -> list[Seen]:
            return [replace(seen, labels=np.ascontiguousarray(seen.labels[::-1]))]

    items = run(host_engine, StreetSource(5, "nv12"), renderer, refiner=Other())
    assert painted == [6]
    assert all(alike(item, renderer) for item in items)


def test_frames_with_gray_around_them_are_painted_on_the_cpu(
    host_engine: TensorRtEngine,  # noqa: F811
    painted: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = replace(host_engine.spec, pad=114)
    monkeypatch.setattr(TensorRtEngine, "spec", property(lambda engine: spec))
    place = spec.fit.place(91, 51, spec.width, spec.height)
    assert (place.height, place.width) != (spec.height, spec.width)
    renderer = Renderer(spec.classes)
    items = run(host_engine, StreetSource(5, "nv12"), renderer)
    assert painted == [0]
    for item in items:
        assert item.labels.shape == (place.height, place.width)
        assert alike(item, renderer)


def test_the_view_may_change_at_any_time(
    host_engine: TensorRtEngine,  # noqa: F811
    painted: list[int],
) -> None:
    views: tuple[View, ...] = ("overlay", "mask", "side-by-side", "input", "mask")
    controls = Controls(ViewOptions("overlay"))

    def told(index: int) -> None:
        controls.change(lambda options: replace(options, view=views[index // 6]))

    renderer = Renderer(host_engine.spec.classes, controls=controls)
    items = run(host_engine, StreetSource(30, "nv12", told=told), renderer, controls=controls)
    assert len(items) == 30
    assert 6 <= painted[0] < 30
    for item in items:
        assert any(alike(item, renderer, ViewOptions(view)) for view in views)


def test_without_kernels_the_cpu_resizes_and_paints(
    host_engine: TensorRtEngine,  # noqa: F811
    painted: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    renderer = Renderer(host_engine.spec.classes)
    DRIVER.fail("cuModuleLoadData", 209)
    with caplog.at_level(logging.INFO, "rtseg.realtime"):
        items = run(host_engine, StreetSource(5, "nv12"), renderer)
    assert painted == [0]
    assert caplog.text.count("resizing and colouring on the CPU: ") == 1
    assert all(alike(item, renderer) for item in items)


@pytest.mark.parametrize("call", ["cuLaunchKernel", "cuMemcpyDtoHAsync"])
def test_a_lost_device_ends_the_loop_with_one_line(
    host_engine: TensorRtEngine,  # noqa: F811
    call: str,
) -> None:
    def told(index: int) -> None:
        if index == 4:
            DRIVER.fail(call, 700)

    renderer = Renderer(host_engine.spec.classes)
    with pytest.raises(EngineError) as caught:
        run(host_engine, StreetSource(20, "nv12", told=told), renderer)
    assert caught.value.reason == "DEVICE_LOST"
    assert call in str(caught.value)
