"""The kernels on a real GPU, held against NumPy and the renderer; both runtimes with planes.

``pytest -m gpu tests/gpu`` on a machine with one; skips, saying why, anywhere else.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from rtseg.engines.cuda_layer import Cuda
from rtseg.engines.errors import EngineError
from rtseg.engines.gpu_pictures import GpuPictures
from rtseg.engines.kernels import Kernels
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.planes import BT601, BT709, Paint, Planes, PlanesEngine, YuvColours
from rtseg.realtime.begun import Begun
from rtseg.realtime.frame import Frame
from rtseg.realtime.overlay import Renderer
from rtseg.realtime.pipeline import Pipeline
from rtseg.realtime.view import ViewOptions
from rtseg.realtime.yuv import planes_420
from tests.engines.host_kernels import U8, resize_reference
from tests.engines.networks import TinyNet
from tests.gpu.test_gpu_engine import Opener, backend, cuda, needs_gpu, opened  # noqa: F401
from tests.realtime.parts import ListSink, StreetSource, street_frame

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

SIZES = [(720, 1280), (1080, 1920), (51, 91), (2, 3), (1, 1), (2160, 3840)]


@pytest.fixture
def kernels(cuda: Cuda) -> Kernels:  # noqa: F811
    try:
        with cuda.current():
            return Kernels(cuda)
    except EngineError as error:
        if error.reason == "BACKEND_MISSING":
            pytest.skip(str(error))
        raise


def on_gpu(
    cuda: Cuda,  # noqa: F811
    kernels: Kernels,
    source: Planes,
    colours: YuvColours,
    paint: Paint,
    labels: U8,
    size: tuple[int, int],
) -> U8:
    """Return the network's input, made on the GPU, and paint ``paint.target``."""
    height, width = size
    with cuda.current():
        stream, end, pictures = cuda.stream(), cuda.event(), GpuPictures(cuda)
        host, device = cuda.pin(height * width * 3), cuda.allocate(height * width * 3)
        host_ids, device_ids = cuda.pin(labels.size), cuda.allocate(labels.size)
        host_ids[:] = labels.reshape(-1)
        pictures.take(source, paint)
        pictures.upload(stream)
        cuda.upload(device_ids, host_ids, stream)
        kernels.resize(pictures.picture, colours, device, width, height, stream)
        shape = (labels.shape[0], labels.shape[1])
        table = pictures.table
        kernels.paint(pictures.picture, device_ids, shape, table, paint.alpha, stream)
        cuda.download(host, device, stream)
        pictures.download(stream)
        cuda.record(end, stream)
        cuda.wait(end)
        pictures.give(paint.target)
        rgb = host.copy().reshape(height, width, 3)
        pictures.close()
        for array in (host, host_ids):
            cuda.unpin(array)
        for address in (device, device_ids):
            cuda.free(address)
        cuda.end_event(end)
        cuda.end_stream(stream)
    return rgb


@pytest.mark.parametrize("layout", ["yuv420p", "nv12"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_the_kernels_are_numpys_and_the_renderers(
    cuda: Cuda,  # noqa: F811
    kernels: Kernels,
    size: tuple[int, int],
    layout: str,
) -> None:
    frame = Frame(0, street_frame(3, layout, (size[1], size[0])), 0, Fraction(1, 25))
    labels = np.random.default_rng(1).integers(0, 21, (64, 128), dtype=np.uint8)
    renderer = Renderer(CITYSCAPES, ViewOptions(alpha=0.6, ignore_classes=(2, 8)))
    begun: Begun | None = renderer.begin(frame)
    assert begun is not None
    for colours in (BT601, BT709):
        rgb = on_gpu(cuda, kernels, begun.source, colours, begun.paint, labels, (64, 128))
        wanted = resize_reference(*planes_420(frame.video), colours, 64, 128)
        assert np.abs(rgb - wanted).max() < 0.51
        painted = planes_420(renderer.render(frame, labels))
        found = planes_420(renderer.finish(begun, frame))
        for one, other in zip(found, painted, strict=True):
            assert np.abs(one.astype(int) - other).max() <= 1
    with cuda.current():
        kernels.close()


def test_the_loop_paints_on_the_gpu(opened: Opener) -> None:  # noqa: F811
    engine = opened(TinyNet())
    assert isinstance(engine, PlanesEngine)
    try:
        engine.prepare_planes()  # compares a first picture with the CPU's
    except EngineError as error:
        if error.reason == "BACKEND_MISSING":
            pytest.skip(str(error))
        raise
    renderer, sink = Renderer(engine.spec.classes), ListSink(wants_picture=True)
    Pipeline(StreetSource(40, "nv12", "yuv420p"), engine, renderer, [sink]).run()
    assert [item.frame.index for item in sink.items] == list(range(40))
    for item in sink.items:
        assert item.picture is not None
        wanted = renderer.render(item.frame, item.labels)
        for one, other in zip(planes_420(item.picture), planes_420(wanted), strict=True):
            assert np.abs(one.astype(int) - other).max() <= 1
