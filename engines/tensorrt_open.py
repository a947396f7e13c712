"""From a file to a running engine of a GPU: built or found in the cache, checked, loaded."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from rtseg.engines.cuda import Gpu, NoGpu, find_gpu
from rtseg.engines.cuda_layer import find_package, open_cuda
from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import PlanHeader, is_plan_file, read_plan
from rtseg.engines.targets import misfit
from rtseg.engines.tensorrt import PlanOptions, Runtime, load_runtime

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuStatus:
    """Whether a runtime can be used on this machine.

    Attributes:
        version: of the runtime, or empty where it is missing.
        runs: whether it runs engines here.
        builds: whether it builds them here.
        reason: why it does not run them, in one line.
    """

    version: str
    runs: bool
    builds: bool
    reason: str


def gpu_status(runtime: Runtime, index: int = 0) -> GpuStatus:
    """Say whether a runtime can be used on this machine; imports it."""
    try:
        version = str(load_runtime(runtime).__version__)
    except EngineError as error:
        return GpuStatus("", False, False, str(error))
    gpu = find_gpu(index)
    if isinstance(gpu, NoGpu):
        builds = runtime == "rtx"
        what = "builds engine files, runs none" if builds else "needs a GPU to build and to run"
        return GpuStatus(version, False, builds, f"{what}: {gpu.reason}")
    if why := find_package():
        return GpuStatus(version, False, True, f"builds engine files, runs none: {why}")
    return GpuStatus(version, True, True, "")


def open_tensorrt(
    path: Path,
    runtime: Runtime,
    *,
    index: int = 0,
    precision: str | None = None,
    requests: int = 0,
    size: tuple[int, int] | None = None,
    cache_dir: Path | None = None,
    graph: bool = True,
) -> Engine:
    """Open an engine on a GPU.

    Args:
        path: an engine file of ``rt-seg-engine build``, or an ONNX network, whose engine is
            taken from the cache, or built and kept there.
        runtime: ``tensorrt`` or ``rtx``.
        index: number of the GPU.
        precision: ``fp32``, ``fp16``, ``int8``, or None: FP16, or INT8 for an INT8 file.
        requests: inferences in flight; 0 chooses.
        size: width and height, for a network that takes any.
        cache_dir: the cache's root, or None for the user's.
        graph: whether CUDA graphs may be used.

    Raises:
        EngineError: ``BACKEND_MISSING`` without a runtime, a GPU or a CUDA package;
            ``ENGINE_MISMATCH`` where the file is for something else; or as the build.
    """
    module = load_runtime(runtime)
    gpu = find_gpu(index)
    if isinstance(gpu, NoGpu):
        raise EngineError(
            f"{runtime} runs on an NVIDIA GPU: {gpu.reason}. Without one, --backend auto "
            "computes on the CPU",
            reason="BACKEND_MISSING",
        )
    if why := find_package():
        raise EngineError(why, reason="BACKEND_MISSING")
    if is_plan_file(path):
        header, plan = read_plan(path)
        _check(path, header, runtime, str(module.__version__), gpu, precision)
    else:
        header, plan = _built(path, runtime, index, precision, size, cache_dir)

    from rtseg.engines.tensorrt_engine import TensorRtEngine
    from rtseg.engines.tensorrt_plan import TensorRtPlan

    cuda = open_cuda(index)
    try:
        with cuda.current():
            loaded = TensorRtPlan(header, plan, cache_dir=cache_dir, gpu=gpu.name)
    except BaseException:
        cuda.close()
        raise
    return TensorRtEngine(header, loaded, cuda, requests=requests, graph=graph)


def _check(
    path: Path, header: PlanHeader, runtime: str, version: str, gpu: Gpu, precision: str | None
) -> None:
    """Raise where an engine file is for something else."""
    identity = header.identity
    why = ""
    if identity.backend != runtime:
        why = f"it is an engine of {identity.backend}, asked for was {runtime}"
    elif precision not in (None, identity.precision):
        why = f"it is {identity.precision.upper()}, asked for was {precision}"
    else:
        why = misfit(identity, version, gpu)
    if why:
        raise EngineError(
            f"{path} does not fit: {why}. rt-seg-engine build --backend {runtime} makes one for "
            "this machine, and naming the ONNX file instead does so by itself",
            reason="ENGINE_MISMATCH",
        )


def _built(
    path: Path,
    runtime: Runtime,
    index: int,
    precision: str | None,
    size: tuple[int, int] | None,
    cache_dir: Path | None,
) -> tuple[PlanHeader, bytes]:
    """Return the engine of a network from the cache, built where it is not there."""
    from rtseg.engines.build import build_engine
    from rtseg.engines.onnxfile import is_quantised, load_onnx

    if index and runtime == "tensorrt":
        raise EngineError(
            f"engines are built on the first GPU: choose another with CUDA_VISIBLE_DEVICES. "
            f"Received: {index}",
            reason="BAD_INPUT",
        )
    chosen = precision or ("int8" if is_quantised(load_onnx(path)) else "fp16")
    told = False

    def tell(step: str, done: int, total: int) -> None:
        nonlocal told
        if not told:
            _log.warning(
                "building the engine of %s for %s in %s; it is kept for the next time",
                path.name,
                runtime,
                chosen.upper(),
            )
        told = True

    built = build_engine(
        path,
        backend=runtime,
        precision=chosen,
        size=size,
        options=PlanOptions(),
        cache_dir=cache_dir,
        progress=tell,
    )
    if built.rebuilt:
        _log.warning("%s: built anew", built.rebuilt)
    return read_plan(built.path, built.header.identity, trusted=built.path.parent)
