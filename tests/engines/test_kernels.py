"""The GPU's kernels, run on the host, held against NumPy, swscale and the renderer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.engines.kernels import (
    PAINT,
    RESIZE,
    TABLE_BYTES,
    DevicePicture,
    paint_job,
    resize_job,
)
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.planes import BT601, BT709, YuvColours
from rtseg.engines.preprocess import to_engine_input
from rtseg.realtime.frame import Frame
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.view import ViewOptions
from rtseg.realtime.yuv import planes_420
from tests.engines.host_kernels import (
    U8,
    HostKernels,
    build_kernels,
    guarded,
    resize_reference,
)

COLOURS = [replace(matrix, full_range=full) for matrix in (BT601, BT709) for full in (False, True)]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    library = build_kernels(tmp_path_factory.mktemp("kernels"))
    if library is None:
        pytest.skip("needs a C++ compiler (g++)")
    return HostKernels(library)


@dataclass
class Memory:
    """A picture as a GPU has it; each plane ends where nothing may be touched."""

    planes: list[U8]
    picture: DevicePicture
    gaps: list[U8] = field(default_factory=list)
    """The bytes between the rows."""

    def parts(self) -> tuple[U8, U8, U8]:
        """Return Y, U and V."""
        width, step = self.picture.width, self.picture.step
        half = (width + 1) // 2
        u = self.planes[1][:, : half * step : step]
        if step == 2:
            return self.planes[0][:, :width], u, self.planes[1][:, 1 : half * 2 : 2]
        return self.planes[0][:, :width], u, self.planes[2][:, :half]

    def copy(self) -> list[U8]:
        return [plane.copy() for plane in self.planes]


def memory(height: int, width: int, interleaved: bool, gap: int, fill: Any = None) -> Memory:
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    step = 2 if interleaved else 1
    sizes = [(height, width), *[(half_height, half_width * step)] * (1 if interleaved else 2)]
    planes, gaps = [], []
    strided = np.lib.stride_tricks.as_strided
    for rows, columns in sizes:
        pitch = columns + gap
        # the gap after the last row belongs to nobody
        whole = guarded(rows * pitch - gap)
        whole[:] = fill(whole.size) if fill else 0
        planes.append(strided(whole, (rows, columns), (pitch, 1), writeable=True))
        gaps.append(strided(whole[columns:], (rows - 1, gap), (pitch, 1), writeable=True))
        gaps[-1][...] = 171
    y, u = planes[0].ctypes.data, planes[1].ctypes.data
    v = u + 1 if interleaved else planes[2].ctypes.data
    picture = DevicePicture(y, u, v, width, height, width + gap, half_width * step + gap, step)
    return Memory(planes, picture, gaps)


def noise(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return lambda count: random.integers(0, 256, count, dtype=np.uint8)


SIZES = st.integers(1, 70)
GAPS = st.integers(0, 40)
SEEDS = st.integers(0, 2**32 - 1)


def test_structures_are_as_c_lays_them_out(kernels: HostKernels) -> None:
    assert kernels.size("rtseg_resize") == RESIZE.itemsize
    assert kernels.size("rtseg_paint") == PAINT.itemsize


def resized(
    kernels: HostKernels, source: Memory, colours: YuvColours, height: int, width: int
) -> U8:
    rgb = guarded(height * width * 3)
    job = resize_job(source.picture, colours, rgb.ctypes.data, width, height)
    kernels.run("rtseg_resize", (width + 1) // 2, height, job)
    first = rgb.copy()
    rgb[:] = ~first
    kernels.run("rtseg_resize", (width + 1) // 2, height, job, backwards=True)
    assert np.array_equal(rgb, first)
    return first.reshape(height, width, 3)


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(SIZES, SIZES),
    target=st.tuples(SIZES, SIZES),
    interleaved=st.booleans(),
    gap=GAPS,
    colours=st.sampled_from(COLOURS),
    seed=SEEDS,
)
def test_resizing_is_numpys(
    kernels: HostKernels,
    source: tuple[int, int],
    target: tuple[int, int],
    interleaved: bool,
    gap: int,
    colours: YuvColours,
    seed: int,
) -> None:
    given_ = memory(*source, interleaved, gap, noise(seed))
    before = given_.copy()
    found = resized(kernels, given_, colours, *target)
    wanted = resize_reference(*given_.parts(), colours, *target)
    assert np.abs(found - wanted).max() < 0.502
    for plane, old in zip(given_.planes, before, strict=True):
        assert np.array_equal(plane, old)


def test_the_largest_sizes_do_not_overflow(kernels: HostKernels) -> None:
    for source, target in (((2, 16384), (2, 16383)), ((2, 16383), (2, 16384))):
        wide = memory(*source, True, 0, noise(1))
        found = resized(kernels, wide, BT709, *target)
        wanted = resize_reference(*wide.parts(), BT709, *target)
        assert np.abs(found - wanted).max() < 0.51


def street(height: int, width: int) -> U8:
    """Return a picture with smooth places, edges and colours, RGB."""
    y, x = np.mgrid[0:height, 0:width]
    red = 128 + 100 * np.sin(x / width * 9) * np.cos(y / height * 5)
    green = 255 * y / height
    blue = np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2, 220, 60)
    return np.stack((red, green, blue), axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("layout", "source", "target"),
    [
        ("nv12", (540, 960), (384, 384)),
        ("nv12", (180, 320), (256, 512)),
        ("yuv420p", (333, 517), (256, 300)),
    ],
)
@pytest.mark.parametrize("colours", COLOURS)
def test_resizing_is_that_of_the_cpus_way(
    kernels: HostKernels,
    colours: YuvColours,
    source: tuple[int, int],
    target: tuple[int, int],
    layout: str,
) -> None:
    frame = street_frame(source, layout, colours)
    luma, chroma = (np.frombuffer(memoryview(plane), np.uint8) for plane in frame.planes[:2])
    third = frame.planes[2] if layout == "yuv420p" else None
    u = chroma.ctypes.data
    picture = DevicePicture(
        luma.ctypes.data,
        u,
        u + 1 if third is None else np.frombuffer(memoryview(third), np.uint8).ctypes.data,
        source[1],
        source[0],
        frame.planes[0].line_size,
        frame.planes[1].line_size,
        2 if third is None else 1,
    )
    wanted = to_engine_input(frame, *target)
    found = resized(kernels, Memory([], picture), colours, *target)
    # swscale rounds down in several places: all of a picture is up to 3 levels darker.
    difference = found.astype(int) - wanted
    bias = difference.mean(axis=(0, 1))
    assert np.abs(bias).max() < 4
    assert np.abs(difference - bias).mean() < 1
    assert np.abs(difference).max() <= 7


def street_frame(size: tuple[int, int], layout: str, colours: YuvColours) -> Any:
    import av

    frame = av.VideoFrame.from_ndarray(street(*size), format="rgb24")
    matrix = 1 if colours.red_weight == BT709.red_weight else 5
    range_ = 2 if colours.full_range else 1
    made = frame.reformat(
        format=layout, dst_colorspace=matrix, src_color_range=2, dst_color_range=range_
    )
    made.colorspace, made.color_range = (1 if matrix == 1 else 6), range_
    return made


def drawn(size: tuple[int, int], layout: str, colours: YuvColours, seed: int) -> Any:
    """Return a frame of noise as a decoder gives it."""
    import av

    frame = av.VideoFrame(size[1], size[0], layout)
    random = np.random.default_rng(seed)
    for plane in frame.planes:
        whole = np.frombuffer(memoryview(plane), np.uint8)
        whole[:] = random.integers(0, 256, whole.size, dtype=np.uint8)
    frame.colorspace = 1 if colours.red_weight == BT709.red_weight else 6
    frame.color_range = 2 if colours.full_range else 1
    return frame


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(SIZES, SIZES),
    label_size=st.tuples(SIZES, SIZES),
    interleaved=st.booleans(),
    gap=GAPS,
    colours=st.sampled_from(COLOURS),
    view=st.sampled_from(["overlay", "mask"]),
    alpha=st.floats(0, 1),
    classes=st.none() | st.lists(st.integers(0, 18)).map(tuple),
    seed=SEEDS,
)
def test_painting_is_the_renderers(
    kernels: HostKernels,
    size: tuple[int, int],
    label_size: tuple[int, int],
    interleaved: bool,
    gap: int,
    colours: YuvColours,
    view: Any,
    alpha: float,
    classes: tuple[int, ...] | None,
    seed: int,
) -> None:
    frame = drawn(size, "nv12" if interleaved else "yuv420p", colours, seed)
    random = np.random.default_rng(seed)
    labels = guarded(label_size[0] * label_size[1]).reshape(label_size)
    labels[:] = random.integers(0, 22, label_size)  # 19 to 21 are no classes
    labels[random.random(label_size) < 0.1] = 255
    renderer = Renderer(CITYSCAPES, ViewOptions(view, alpha, classes))
    rendered = planes_420(renderer.render(Frame(0, frame, 0, Fraction(1, 25)), labels))

    memory_ = memory(*size, interleaved, gap)
    for part, plane in zip(memory_.parts(), planes_420(frame), strict=True):
        part[...] = plane
    before = memory_.copy()
    table = guarded(TABLE_BYTES).reshape(256, 4)
    # With alpha 0 the renderer needs no table.
    view_of = replace(renderer.options, alpha=alpha or 1)
    begun = Renderer(CITYSCAPES, view_of).begin(Frame(0, frame, 0, Fraction(1, 25)))
    assert begun is not None
    table[:] = begun.paint.table
    at, there, weight = labels.ctypes.data, table.ctypes.data, 1 if view == "mask" else alpha
    job = paint_job(memory_.picture, at, label_size, there, weight)
    half = (size[1] + 1) // 2, (size[0] + 1) // 2
    kernels.run("rtseg_paint", *half, job)
    for part, wanted in zip(memory_.parts(), rendered, strict=True):
        rows, columns = part.shape
        assert np.abs(part.astype(int) - wanted[:rows, :columns]).max() <= 1
    forwards = memory_.copy()
    for plane, old in zip(memory_.planes, before, strict=True):
        plane[...] = old
    kernels.run("rtseg_paint", *half, job, backwards=True)
    for plane, once in zip(memory_.planes, forwards, strict=True):
        assert np.array_equal(plane, once)
    assert all((gap == 171).all() for gap in memory_.gaps)
