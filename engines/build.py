"""From a network file to an engine file for a GPU, kept in the cache and found again."""

from __future__ import annotations

import glob
import logging
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rtseg.engines.cache import writable_cache
from rtseg.engines.convert_fp16 import to_fp16
from rtseg.engines.cuda import Gpu, NoGpu, find_gpu
from rtseg.engines.deployable import Deployable, read_deployable
from rtseg.engines.errors import EngineError
from rtseg.engines.lookup import is_folder, is_there
from rtseg.engines.planfile import (
    PlanHeader,
    PlanIdentity,
    is_plan_file,
    read_header,
    read_plan,
    write_plan,
)
from rtseg.engines.targets import check_target, shown_target
from rtseg.engines.tensorrt import PlanOptions, Progress, Runtime, build_plan, load_runtime
from rtseg.engines.uint8_casts import cast_through_float
from rtseg.engines.versions import own_version

_log = logging.getLogger(__name__)

SUFFIX = ".engine"
CACHE_PART = "engines"


@dataclass(frozen=True)
class BuiltEngine:
    """An engine file.

    Attributes:
        path: where it is.
        header: what it says of itself.
        found: whether it was there already.
        rebuilt: why an older file was not good enough, or empty.
        warnings: what the builder complained of.
    """

    path: Path
    header: PlanHeader
    found: bool
    rebuilt: str = ""
    warnings: tuple[str, ...] = ()


def build_engine(
    source: Path,
    *,
    backend: Runtime,
    precision: str,
    out: Path | None = None,
    size: tuple[int, int] | None = None,
    options: PlanOptions | None = None,
    cache_dir: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> BuiltEngine:
    """Build an engine file, or find it.

    Args:
        source: an ONNX network, ours or foreign: FP32 for ``fp32`` and ``fp16``, one with
            Q/DQ nodes for ``int8``.
        backend: ``tensorrt`` or ``rtx``.
        precision: ``fp32``, ``fp16`` or ``int8`` (what is not quantised is FP16 then).
        out: the file to write; None keeps it in the cache.
        size: width and height in pixels, for a network that takes any.
        options: see :class:`rtseg.engines.tensorrt.PlanOptions`.
        cache_dir: the cache's root, or None for the user's.
        force: build even where a fitting file is there.
        progress: told how far the build is.

    Raises:
        EngineError: the network, the runtime, the GPU or the disk; the reason says which. An
            existing file is untouched then, and no partial one is left.
    """
    options = options or PlanOptions()
    options = replace(options, target=check_target(backend, options.target))
    network = read_deployable(source, size)
    _check_precision(network, precision)
    identity = _identity(network, backend, precision, options)
    if out is not None:
        _check_place(out)
    path = out or _cached(identity, cache_dir)
    rebuilt = ""
    if path.exists() and not force:
        try:
            header, _ = read_plan(path, identity, trusted=path.parent)
            return BuiltEngine(path, header, found=True)
        except EngineError as error:
            rebuilt = str(error)
            _log.info("%s", rebuilt)
    elif out is None and not force:
        rebuilt = _outdated(path, identity)
    model = network.model if precision == "fp32" else to_fp16(network.model)
    model = cast_through_float(model)
    # FP32 is what other precisions are held against.
    options = replace(options, tf32=precision != "fp32")
    built = build_plan(model, backend, options, network=network.spec.network, progress=progress)
    spec = replace(network.spec, precision="fp16") if precision == "fp16" else network.spec
    header = PlanHeader(
        identity=identity,
        spec=spec,
        input_name=network.input_name,
        output_name=network.output_name,
        layers=built.layers,
        build_s=round(built.build_s, 3),
        built_utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    written = write_plan(path, header, built.plan)
    return BuiltEngine(path, written, found=False, rebuilt=rebuilt, warnings=built.warnings)


def _check_place(out: Path) -> None:
    """Raise before a long build where its file cannot, or must not, be written."""
    if not is_folder(out.parent):
        raise EngineError(f"no such folder: {out.parent}", reason="NOT_FOUND")
    if is_folder(out):
        raise EngineError(f"{out} is a folder; name a file", reason="BAD_INPUT")
    if is_there(out) and out.stat().st_size and not is_plan_file(out):
        raise EngineError(
            f"{out} is no engine file of rt-seg and is left as it is; name another",
            reason="ENGINE_UNSUPPORTED",
        )


def _check_precision(network: Deployable, precision: str) -> None:
    if precision not in ("fp32", "fp16", "int8"):
        raise EngineError(
            f"unknown precision {precision!r}. Allowed: fp32, fp16, int8", reason="BAD_OPTION"
        )
    has = network.spec.precision
    wanted = "int8" if precision == "int8" else "fp32"
    if has != wanted:
        how = {
            "int8": "INT8 is made by calibration: rt-seg-engine build --precision int8",
            "fp32": f"{precision.upper()} is built from the FP32 network",
        }[wanted]
        raise EngineError(
            f"{network.spec.network} is {has.upper()}; {how}", reason="ENGINE_MISMATCH"
        )


def _identity(
    network: Deployable, backend: Runtime, precision: str, options: PlanOptions
) -> PlanIdentity:
    module = load_runtime(backend)
    gpu: Gpu | None = None
    if backend == "tensorrt":
        found = find_gpu()
        if isinstance(found, NoGpu):
            raise EngineError(
                f"TensorRT builds on the GPU that will run the engine: {found.reason}. Without a "
                "GPU, --backend rtx builds",
                reason="BACKEND_MISSING",
            )
        gpu = found
    gpu_name, capability = shown_target(backend, options.target, gpu)
    spec = network.spec
    return PlanIdentity(
        backend=backend,
        runtime_version=str(module.__version__),
        gpu=gpu_name,
        compute_capability=capability,
        network=spec.network,
        width=spec.width,
        height=spec.height,
        precision=precision,
        max_batch=options.max_batch if network.free_batch else 1,
        workspace_mib=options.workspace_mib,
        file_sha256=network.file_sha256,
        source_sha256=spec.source_sha256,
        calibration_sha256=spec.calibration_sha256,
        maker_version=own_version(),
    )


def _cached(identity: PlanIdentity, cache_dir: Path | None) -> Path:
    folder = writable_cache(cache_dir, CACHE_PART)
    if folder is None:
        raise EngineError(
            "engines cannot be kept, the cache is not writable; name a file with --out",
            reason="PERMISSION_DENIED",
        )
    name = re.sub(r"[^\w.-]+", "_", identity.network)
    size = f"{identity.width}x{identity.height}"
    return folder / (
        f"{name}-{size}-{identity.precision}-{identity.backend}-{identity.key()}{SUFFIX}"
    )


def _outdated(path: Path, identity: PlanIdentity) -> str:
    """Say why the newest engine of the same network in the cache does not do; empty without one.

    One that was built with other options is no reason: both are wanted.
    """
    family = path.name.removesuffix(f"{identity.key()}{SUFFIX}")
    found = []
    for other in path.parent.glob(f"{glob.escape(family)}*{SUFFIX}"):
        try:
            found.append((other.stat().st_mtime, other.name, read_header(other).identity))
        except (EngineError, OSError):
            continue
    if not found:
        return ""
    _, name, newest = max(found, key=lambda entry: entry[:2])
    wanted = replace(identity, max_batch=newest.max_batch, workspace_mib=newest.workspace_mib)
    why = newest.difference(wanted)
    return f"{name} does not fit: {why}" if why else ""
