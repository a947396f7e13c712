"""Planes through a GPU's engine: what they may be, and the whole way on a driver of the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.engines.cuda_layer import PACKAGES, Package
from rtseg.engines.cuda_pycuda import find_nvcc
from rtseg.engines.errors import EngineError
from rtseg.engines.nvrtc import compile_cuda
from rtseg.engines.planes import BT601, BT709, Planes, PlanesEngine, YuvColours
from rtseg.engines.registry import open_engine
from rtseg.realtime.yuv import ColourTags, colours_to_yuv
from tests.engines.host_driver import build_driver, run_suites
from tests.engines.host_kernels import build_kernels
from tests.engines.networks import TinyNet


@pytest.mark.parametrize("package", PACKAGES)
def test_the_engine_takes_planes_on_a_driver_of_the_tests(tmp_path: Path, package: Package) -> None:
    pytest.importorskip("onnxruntime")
    if package == "pycuda":
        if find_nvcc() is None:
            pytest.skip("needs nvcc; bash tools/pycuda.sh installs it")
    else:
        try:
            compile_cuda("", "8.9")
        except EngineError as error:
            pytest.skip(str(error))
    if build_driver(tmp_path) is None or build_kernels(tmp_path) is None:
        pytest.skip("needs a C and a C++ compiler")
    run_suites(tmp_path, "on_host_planes.py", "on_host_loop.py", package=package)


def plane(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.zeros(shape, np.uint8)


def test_planes_are_packed_without_gaps() -> None:
    wide = np.arange(5 * 9, dtype=np.uint8).reshape(5, 9)
    picture = Planes(wide[:, :7], (wide[:3, :4], wide[2:, 5:]))
    packed = np.empty(picture.size, np.uint8)
    picture.pack(packed)
    assert picture.size == 5 * 7 + 2 * 3 * 4
    assert np.array_equal(packed[:35].reshape(5, 7), wide[:, :7])
    assert np.array_equal(packed[-12:].reshape(3, 4), wide[2:, 5:])
    other = Planes(plane(5, 7), (plane(3, 4), plane(3, 4)))
    other.unpack(packed)
    assert np.array_equal(other.y, picture.y)
    assert np.array_equal(other.chroma[1], wide[2:, 5:])


@pytest.mark.parametrize(
    ("y", "chroma"),
    [
        (plane(4, 4), (plane(2, 2),)),
        (plane(4, 4), (plane(2, 2), plane(2, 3))),
        (plane(5, 4), (plane(2, 2), plane(2, 2))),
        (plane(0, 4), (plane(0, 2), plane(0, 2))),
        (plane(4, 4, 1), (plane(2, 2), plane(2, 2))),
        (np.zeros((4, 4), np.uint16), (plane(2, 2), plane(2, 2))),
        (np.broadcast_to(plane(1, 1), (2, 16386)), (plane(1, 8193), plane(1, 8193))),
    ],
)
def test_what_is_no_picture_is_refused(y: object, chroma: object) -> None:
    with pytest.raises(EngineError, match="Received: ") as caught:
        Planes(y, chroma)  # type: ignore[arg-type]
    assert caught.value.reason == "BAD_INPUT"


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("full", [False, True])
def test_colours_come_back_from_yuv(matrix: int, full: bool) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)
    y, u, v = colours_to_yuv(rgb, ColourTags(matrix, full)).astype(float).T
    known = BT709 if matrix == 1 else BT601
    colours = YuvColours(known.red_weight, known.blue_weight, full)
    black, luma, red_v, green_u, green_v, blue_u = colours.to_rgb()
    grey = luma * (y - black)
    back = (
        grey + red_v * (v - 128),
        grey + green_u * (u - 128) + green_v * (v - 128),
        grey + blue_u * (u - 128),
    )
    assert np.abs(np.stack(back, axis=1) - rgb).max() < 2


def test_the_cpus_engines_take_no_planes(tmp_path: Path) -> None:
    with open_engine(TinyNet().save_ours(tmp_path / "net.onnx")) as engine:
        assert not isinstance(engine, PlanesEngine)
