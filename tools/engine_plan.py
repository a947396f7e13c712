"""``rt-seg-engine build --backend tensorrt|rtx``: an engine file for a GPU; and what is in one."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.engines.lookup import is_file
from rtseg.tools import argument_types
from rtseg.tools.engine_half import half_line, try_half

if TYPE_CHECKING:
    from rtseg.engines.build import BuiltEngine
    from rtseg.engines.planfile import PlanHeader
    from rtseg.tools.step_progress import Progress

BACKENDS = ("openvino", "tensorrt", "rtx")
_LABEL = 19


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for engines of a GPU to ``build``."""
    add = parser.add_argument
    add(
        "--backend",
        choices=BACKENDS,
        default="openvino",
        help="whose file: openvino (an ONNX file), tensorrt (built on its GPU) or rtx "
        "(TensorRT-RTX, builds without a GPU) (%(default)s)",
    )
    add(
        "--max-batch",
        type=argument_types.count,
        default=1,
        metavar="N",
        help="for a GPU: most frames of an inference; the loop gives it one (%(default)s)",
    )
    add(
        "--workspace",
        type=argument_types.count,
        default=0,
        metavar="MIB",
        help="for a GPU: limit of the builder's working memory (default: the runtime's)",
    )
    add(
        "--size",
        type=argument_types.size,
        metavar="WxH",
        help="for a network that takes any, as those that ship do",
    )
    add(
        "--target",
        default="",
        metavar="GPUS",
        help="tensorrt: this (default), ampere+ or same-capability; rtx: any (default), or "
        "compute capabilities to compile for ahead of time: 8.6,8.9",
    )
    add("--timing-cache", type=Path, metavar="FILE", help="for tensorrt: used and written")


def build_for_gpu(options: argparse.Namespace, show: Progress) -> None:
    """Build or find an engine file, and say which.

    Raises:
        CalibrationError: what was asked for cannot be done.
        EngineError: the network, the runtime, the GPU or the disk.
    """
    from rtseg.calibration.errors import CalibrationError
    from rtseg.engines.build import build_engine
    from rtseg.engines.tensorrt import PlanOptions

    if options.verify is not None:
        raise CalibrationError(
            f"--verify runs on the CPU, engines of {options.backend} do not: verify the same "
            "network with --backend openvino, or the engine on its GPU with rt-seg-model evaluate "
            "FILE --data DATA",
            reason="BAD_OPTION",
        )
    precision = options.precision or "fp16"
    source = _source(options, precision, show)
    size = argument_types.wide_first(options.size)
    tried = {} if precision == "fp32" else try_half(options, source, size, show)
    built = build_engine(
        source,
        backend=options.backend,
        precision=precision,
        out=options.out,
        size=size,
        options=PlanOptions(
            options.max_batch, options.workspace, options.timing_cache, options.target
        ),
        force=options.force,
        progress=show,
    )
    show.done()
    record = {**_record(built), **({"fp16_tried": tried} if tried else {})}
    print(json.dumps(record, indent=2) if options.json else _text(built, tried))


def show_plan(file: Path, *, as_json: bool) -> None:
    """Print what an engine file says of itself (``rt-seg-engine info``).

    Raises:
        EngineError: it cannot be read.
    """
    from rtseg.engines.planfile import read_header

    header = read_header(file)
    if as_json:
        record = {"file": str(file), "bytes": file.stat().st_size, **json.loads(header.to_json())}
        print(json.dumps(record, indent=2))
        return
    spec, identity = header.spec, header.identity
    rows = {
        "file": f"{file} ({file.stat().st_size / 1e6:.1f} MB)",
        "network": spec.network,
        "built by": f"{identity.backend} {identity.runtime_version}, rt-seg "
        f"{identity.maker_version}, {header.built_utc}, in {header.build_s:.1f} s",
        "for GPU": f"{identity.gpu}, compute capability {identity.compute_capability}",
        "input": f"{spec.width}x{spec.height} (width x height), uint8 RGB frames, 1 to "
        f"{identity.max_batch} at once",
        "output": "class ids, uint8, of the same size",
        "precision": identity.precision,
        "workspace": f"{identity.workspace_mib} MiB" if identity.workspace_mib else "",
        "network file sha256": identity.file_sha256,
        "source sha256": identity.source_sha256,
        "calibration sha256": identity.calibration_sha256,
        "plan sha256": header.plan_sha256,
        "licence": spec.licence,
        **spec.extra,
        "classes": f"{len(spec.classes)}: {', '.join(spec.classes.names)}",
        "layers": f"{len(header.layers)}: {_types(header)}",
    }
    for name, value in rows.items():
        if value:
            print(f"{name:<{_LABEL}} {value}")
    for layer in header.layers:
        nodes = ", ".join(layer.nodes)
        print(f"  {layer.precision or '-':<9}{layer.kind:<17}{nodes or layer.name}")


def _source(options: argparse.Namespace, precision: str, show: Progress) -> Path:
    """Return the ONNX file to build from, after calibrating it if need be."""
    from rtseg.calibration.errors import CalibrationError
    from rtseg.engines.onnxfile import is_quantised, load_onnx
    from rtseg.engines.quality import DEFAULT_QUALITY, quality_points, size_of_quality
    from rtseg.engines.shipped import choose_model, shipped_models
    from rtseg.tools.engine_build import shipped_fp32

    if options.file is not None and not is_file(options.file):
        raise CalibrationError(f"no such network: {options.file}", reason="NOT_FOUND")
    if precision != "int8":
        return options.file or shipped_fp32(options.model)
    if options.file is None and not options.calib_data:
        shipped = shipped_models()
        if any((one.name, one.precision) == (options.model, "int8") for one in shipped):
            size = argument_types.wide_first(options.size) or size_of_quality(
                quality_points(options.model), options.model, DEFAULT_QUALITY
            )
            return choose_model(shipped, options.model, "int8", size).path
    source: Path = options.file or shipped_fp32(options.model)
    if is_quantised(load_onnx(source)):
        return source
    if not options.calib_data:
        raise CalibrationError(
            "INT8 needs images of the network's domain: --calib-data ROOT (a Cityscapes root, a "
            "folder of images or videos, or a video), or an INT8 file made before",
            reason="BAD_OPTION",
        )
    return _calibrated(options, source, show)


def _calibrated(options: argparse.Namespace, source: Path, show: Progress) -> Path:
    """Return the INT8 form of a network from the cache, made if it is not there."""
    from rtseg.calibration.calibration_set import select_images
    from rtseg.calibration.errors import CalibrationError
    from rtseg.engines.cache import writable_cache
    from rtseg.engines.fingerprint import network_sha256
    from rtseg.engines.versions import own_version
    from rtseg.tools.engine_build import quantise

    folder = writable_cache(None, "networks")
    if folder is None:
        raise CalibrationError(
            "the calibrated network cannot be kept, the cache is not writable: make it with "
            "--backend openvino --out FILE, and build from that",
            reason="NOT_FOUND",
        )
    images = select_images(options.calib_data, options.calib_images, seed=options.calib_seed)
    record = [
        own_version(),
        network_sha256(source),
        images.sha256(),
        options.calib_seed,
        options.calib_method,
        options.calib_percentile,
        options.keep_fp16,
        options.size,
    ]
    key = hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]
    stem = source.stem.removesuffix("-fp32")
    path = folder / f"{stem}-int8-{key}.onnx"
    if options.force or not path.is_file():
        quantise(options, source, path, show)
    return path


def _record(built: BuiltEngine) -> dict[str, Any]:
    header = built.header
    return {
        "output": str(built.path),
        "bytes": built.path.stat().st_size,
        "found": built.found,
        "rebuilt": built.rebuilt,
        "identity": asdict(header.identity),
        "build_s": header.build_s,
        "layers": len(header.layers),
        "layer_types": dict(_counts(header)),
        "warnings": list(built.warnings),
    }


def _text(built: BuiltEngine, tried: dict[str, Any]) -> str:
    header = built.header
    identity = header.identity
    size = f"{built.path.stat().st_size / 1e6:.1f} MB"
    rows = {
        "rebuilt": built.rebuilt,
        "found" if built.found else "written": f"{built.path} ({size})",
        "for": f"{identity.backend} {identity.runtime_version}, {identity.precision}, GPU "
        f"{identity.gpu}, {identity.width}x{identity.height}, up to {identity.max_batch} frames",
        "built in": "" if built.found else f"{header.build_s:.1f} s",
        "layers": f"{len(header.layers)}: {_types(header)}",
        "FP16 tried": half_line(tried) if tried else "",
        "warnings": "; ".join(built.warnings),
    }
    return "\n".join(f"{name:<11}{value}" for name, value in rows.items() if value)


def _counts(header: PlanHeader) -> Counter[str]:
    """Count the layers that have weights or tensors by the type they compute in."""
    return Counter(layer.precision for layer in header.layers if layer.precision)


def _types(header: PlanHeader) -> str:
    return ", ".join(f"{count} {name}" for name, count in _counts(header).most_common())
