"""One door to every engine: which file, which runtime, which device."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.engines.inflight import Mode
from rtseg.engines.openvino_runtime import load_openvino
from rtseg.engines.quality import (
    DEFAULT_QUALITY,
    QUALITIES,
    quality_points,
    size_of_quality,
)
from rtseg.engines.shipped import choose_model, shipped_models
from rtseg.engines.variables import make_variables

if TYPE_CHECKING:
    from rtseg.engines.tensorrt import Runtime

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineOptions:
    """What every backend is told; see :func:`open_engine`."""

    precision: str | None = None
    threads: int = 0
    requests: int = 0
    mode: Mode = "throughput"
    size: tuple[int, int] | None = None
    cache_dir: Path | None = None
    gpu: int = 0
    quality: str | None = None


@dataclass(frozen=True)
class Backend:
    """A way to run a network.

    Attributes:
        name: what a user types.
        runtime: the module that must be importable.
        distribution: the package that brings it.
        install: the command that installs it.
        devices: kinds of device it runs on.
        open: opens a file.
        prefers_int8: whether INT8 is its fastest precision.
    """

    name: str
    runtime: str
    distribution: str
    install: str
    devices: tuple[str, ...]
    open: Callable[[Path, EngineOptions], Engine]
    prefers_int8: bool = True


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can be used here; ``reason`` says why not, in one line.

    ``builds`` tells whether engine files can be built with it here.
    """

    name: str
    available: bool
    version: str
    devices: tuple[str, ...]
    reason: str = ""
    builds: bool = False


def _open_openvino(path: Path, options: EngineOptions) -> Engine:
    from rtseg.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(
        path,
        precision=options.precision,
        threads=options.threads,
        requests=options.requests,
        mode=options.mode,
        size=options.size,
        cache_dir=options.cache_dir,
    )


def _open_onnxruntime(path: Path, options: EngineOptions) -> Engine:
    from rtseg.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(
        path,
        precision=options.precision,
        threads=options.threads,
        requests=options.requests,
        mode=options.mode,
        size=options.size,
    )


def _open_tensorrt(path: Path, options: EngineOptions) -> Engine:
    return _open_on_gpu("tensorrt", path, options)


def _open_rtx(path: Path, options: EngineOptions) -> Engine:
    return _open_on_gpu("rtx", path, options)


def _open_on_gpu(runtime: Runtime, path: Path, options: EngineOptions) -> Engine:
    from rtseg.engines.tensorrt_open import open_tensorrt

    return open_tensorrt(
        path,
        runtime,
        index=options.gpu,
        precision=options.precision,
        requests=options.requests,
        size=options.size,
        cache_dir=options.cache_dir,
    )


BACKENDS: tuple[Backend, ...] = (
    Backend("openvino", "openvino", "openvino", "pip install openvino", ("cpu",), _open_openvino),
    Backend(
        "onnxruntime",
        "onnxruntime",
        "onnxruntime",
        "pip install rt-seg[onnxruntime]",
        ("cpu",),
        _open_onnxruntime,
        prefers_int8=False,
    ),
    Backend(
        "tensorrt",
        "tensorrt",
        "tensorrt",
        "pip install rt-seg[tensorrt]",
        ("cuda",),
        _open_tensorrt,
        prefers_int8=False,
    ),
    Backend(
        "rtx",
        "tensorrt_rtx",
        "tensorrt-rtx-cu13-bindings",
        "pip install rt-seg[rtx]",
        ("cuda",),
        _open_rtx,
        prefers_int8=False,
    ),
)
"""Every backend, in the order in which ``auto`` tries them."""


def open_engine(
    path: str | Path | None = None,
    *,
    model: str = "espnet-lite",
    backend: str = "auto",
    device: str = "auto",
    precision: str | None = None,
    threads: int = 0,
    requests: int = 0,
    mode: Mode = "throughput",
    size: tuple[int, int] | None = None,
    cache_dir: str | Path | None = None,
    quality: str | None = None,
) -> Engine:
    """Open an engine; use it as a context manager, or close it.

    Args:
        path: an engine file, or any segmentation network as ``.onnx`` or OpenVINO ``.xml``;
            None takes the shipped network ``model``.
        model: name of a shipped network.
        backend: ``openvino``, ``onnxruntime``, ``tensorrt``, ``rtx``, or ``auto``: the first
            that is installed and can run the network.
        device: ``cpu``, ``cuda:N``, or ``auto``: what the backend runs on, the CPU where that
            is ``auto``, too. ``cuda:N`` with the backend ``auto`` falls back to the CPU, with
            a line in the log, where no GPU can be used.
        precision: ``fp32``, ``bf16``, ``fp16``, ``int8``, or None for the fastest there.
        threads: CPU threads of the network; 0 chooses from the machine's cores.
        requests: inferences in flight; 0 chooses.
        mode: ``latency`` for live video (one frame on all threads), ``throughput`` for
            files (several frames side by side).
        size: width and height in pixels, for a network that takes any.
        cache_dir: where compiled networks are kept; None for the user's cache.
        quality: ``fast``, ``balanced`` or ``best``: in which of its sizes a shipped network is
            taken; None takes ``balanced``, or ``size``.

    Raises:
        EngineError: the reason says which: no such file or network, no such runtime, a file
            that is damaged or no segmentation network, or a value that is not allowed.

    Example:
        >>> import numpy as np
        >>> with open_engine() as engine:                              # doctest: +SKIP
        ...     labels = engine.infer(np.zeros((1, 480, 640, 3), np.uint8))
    """
    make_variables()
    backend = _backend_of(path, backend)
    candidates = _candidates(backend, device)
    _check_quality(quality, path, size)
    options = EngineOptions(
        precision=None if precision == "auto" else precision,
        threads=threads,
        requests=requests,
        mode=mode,
        size=size,
        cache_dir=None if cache_dir is None else Path(cache_dir).expanduser(),
        gpu=int(device.partition(":")[2] or 0),
        quality=quality,
    )
    missing: list[str] = []
    refused: EngineError | None = None
    for candidate in candidates:
        status = _status(candidate)
        if not status.available:
            missing.append(f"{status.name}: {status.reason}")
            continue
        file = _file(path, model, candidate, options)
        try:
            return candidate.open(file, options)
        except EngineError as error:
            if error.reason != "ENGINE_UNSUPPORTED" or refused or backend != "auto":
                raise refused or error from None
            refused = error
            _log.debug("%s refuses %s: %s", candidate.name, file, error)
    if refused is not None:
        raise refused
    raise EngineError("no runtime to compute on: " + "; ".join(missing), reason="BACKEND_MISSING")


def list_backends() -> list[BackendStatus]:
    """Return every backend with whether it can be used here, and why not.

    Imports the runtimes that are installed.
    """
    return [_status(backend) for backend in BACKENDS]


def _candidates(backend: str, device: str) -> list[Backend]:
    names = [known.name for known in BACKENDS]
    if backend != "auto" and backend not in names:
        raise EngineError(
            f"unknown backend {backend!r}. Allowed: auto, {', '.join(names)}", reason="BAD_OPTION"
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d{0,4})?", device, re.ASCII):
        raise EngineError(
            f"unknown device {device!r}. Allowed: auto, cpu, cuda:N", reason="BAD_OPTION"
        )
    kind = device.partition(":")[0]
    if backend == "auto":
        return _first_choice("cpu" if kind == "auto" else kind, device)
    chosen = [known for known in BACKENDS if known.name == backend]
    if kind not in ("auto", *chosen[0].devices):
        raise EngineError(
            f"{backend} runs on {', '.join(chosen[0].devices)}. Received: device {device}",
            reason="BAD_OPTION",
        )
    return chosen


def _first_choice(kind: str, device: str) -> list[Backend]:
    """Return the backends of a kind of device, or the CPU's where no GPU can be used."""
    chosen = [known for known in BACKENDS if kind in known.devices]
    if kind == "cpu":
        return chosen
    states = [_status(known) for known in chosen]
    if any(state.available for state in states):
        return chosen
    why = "; ".join(f"{state.name}: {state.reason}" for state in states)
    _log.warning("%s cannot be used (%s); computing on the CPU", device, why)
    return _first_choice("cpu", device)


def _backend_of(path: str | Path | None, backend: str) -> str:
    """Return the backend to use: that of an engine file for a GPU, where the file is one."""
    from rtseg.engines.planfile import is_plan_file, read_header

    if path is None or not is_plan_file(Path(path).expanduser()):
        return backend
    built = read_header(Path(path).expanduser()).identity
    if backend in ("auto", built.backend):
        return built.backend
    raise EngineError(
        f"{path} is an engine of {built.backend} {built.runtime_version} for a GPU; name the ONNX "
        f"file that it was built from. Received: backend {backend}",
        reason="ENGINE_UNSUPPORTED",
    )


def _status(backend: Backend) -> BackendStatus:
    try:
        version = metadata.version(backend.distribution)
    except metadata.PackageNotFoundError:
        version = ""
    reason = ""
    if "cuda" in backend.devices:
        return _gpu_status(backend)
    try:
        if backend.runtime == "openvino":
            load_openvino()
        else:
            import_module(backend.runtime)
    except Exception as error:  # a broken installation fails in ways of its own
        why = "not installed" if not version else " ".join(str(error).split())
        reason = f"{why} ({backend.install})"
    return BackendStatus(backend.name, not reason, version, backend.devices, reason)


def _gpu_status(backend: Backend) -> BackendStatus:
    from rtseg.engines.tensorrt_open import gpu_status

    found = gpu_status("rtx" if backend.name == "rtx" else "tensorrt")
    return BackendStatus(
        backend.name, found.runs, found.version, backend.devices, found.reason, found.builds
    )


def _file(path: str | Path | None, model: str, backend: Backend, options: EngineOptions) -> Path:
    if path is not None:
        return Path(path).expanduser()
    size = options.size
    points = quality_points(model)
    if size is None and (points or options.quality):
        size = size_of_quality(points, model, options.quality or DEFAULT_QUALITY)
    return choose_model(
        shipped_models(), model, options.precision, size, prefer_int8=backend.prefers_int8
    ).path


def _check_quality(
    quality: str | None, path: str | Path | None, size: tuple[int, int] | None
) -> None:
    if quality is None:
        return
    if quality not in QUALITIES:
        raise EngineError(
            f"unknown quality {quality!r}. Allowed: {', '.join(QUALITIES)}", reason="BAD_OPTION"
        )
    if path is not None or size is not None:
        what = f"the engine file {path}" if path is not None else "a size"
        raise EngineError(
            f"quality chooses among a shipped network's sizes. Received: {quality} and {what}",
            reason="BAD_OPTION",
        )
