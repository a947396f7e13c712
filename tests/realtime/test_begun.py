"""What an engine is given to paint; how it paints is in ``tests/engines/on_host_loop.py``."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.preprocess import to_engine_input
from rtseg.realtime.begun import PlanesPainter, network_colours
from rtseg.realtime.frame import Frame
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.view import ViewOptions
from rtseg.realtime.yuv import planes_420
from tests.engines.host_kernels import resize_reference
from tests.realtime.parts import PlainPainter


def patches(layout: str, width: int = 64, height: int = 48) -> av.VideoFrame:
    """Return large patches of strong colours."""
    few = np.random.default_rng(3).integers(0, 2, (3, 4, 3)).astype(np.uint8) * 200 + 20
    rgb = few.repeat(height // 3, axis=0).repeat(width // 4, axis=1)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=layout)
    frame.pts, frame.time_base = 7, Fraction(1, 25)
    return frame


@pytest.mark.parametrize("layout", ["yuv420p", "yuvj420p", "nv12"])
@pytest.mark.parametrize("colour_range", [0, 1, 2])
@pytest.mark.parametrize("matrix", [1, 2, 5, 6, 7, 9])
def test_colours_are_those_of_the_cpus_way(matrix: int, colour_range: int, layout: str) -> None:
    size = (1280, 720) if matrix == 2 else (64, 48)  # players guess by the size, swscale does not
    frame = patches(layout, *size)
    frame.colorspace, frame.color_range = matrix, colour_range
    target = size[1] // 3, size[0] // 4
    wanted = to_engine_input(frame, *target)
    found = resize_reference(*planes_420(frame), network_colours(frame), *target)
    difference = np.abs(found - wanted)
    assert np.percentile(difference, 99) < 6  # swscale rounds down; another matrix gives 20


def test_renderers_leave_painting_where_it_can_be_done_elsewhere() -> None:
    assert isinstance(Renderer(CITYSCAPES), PlanesPainter)
    assert not isinstance(PlainPainter(), PlanesPainter)
    frame = Frame(0, patches("nv12"), 7, Fraction(1, 25))
    for view, taken in (
        (ViewOptions(), True),
        (ViewOptions("mask", alpha=0), True),
        (ViewOptions(alpha=0), False),
        (ViewOptions("side-by-side"), False),
        (ViewOptions("input"), False),
    ):
        assert (Renderer(CITYSCAPES, view).begin(frame) is not None) == taken, view
    for layout in ("rgb24", "yuv422p", "yuv420p10le", "gray"):
        other = Frame(0, patches(layout), 7, Fraction(1, 25))
        assert Renderer(CITYSCAPES).begin(other) is None, layout


def test_the_table_says_what_is_painted() -> None:
    frame = Frame(0, patches("nv12"), 7, Fraction(1, 25))
    begun = Renderer(CITYSCAPES, ViewOptions(classes=(0, 13))).begin(frame)
    assert begun is not None
    assert np.flatnonzero(begun.paint.table[:, 3]).tolist() == [0, 13]
    mask = Renderer(CITYSCAPES, ViewOptions("mask", alpha=0.2, classes=(0, 13))).begin(frame)
    assert mask is not None
    assert mask.paint.table[:, 3].all()  # black elsewhere
    assert mask.paint.alpha == 1
    assert not begun.source.interleaved
    assert begun.paint.target.y.base is not None
