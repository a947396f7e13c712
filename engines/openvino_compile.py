"""Compiles a network with OpenVINO, for the precision that is the fastest here, and keeps it."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from rtseg.engines import onnxfile
from rtseg.engines.cache import writable_cache
from rtseg.engines.errors import EngineError
from rtseg.engines.fingerprint import network_sha256
from rtseg.engines.openvino_network import ReadNetwork
from rtseg.engines.openvino_precision import possible_hints, quickest, recall, remember
from rtseg.engines.openvino_runtime import load_openvino

_log = logging.getLogger(__name__)

_PRECISION = "INFERENCE_PRECISION_HINT"


def compile_network(
    core: Any,
    read: ReadNetwork,
    path: Path,
    config: dict[str, Any],
    precision: str | None,
    cache_dir: Path | None,
) -> Any:
    """Return an ``openvino.CompiledModel``.

    Args:
        core: an ``openvino.Core``.
        read: the network.
        path: where it was read from.
        config: OpenVINO's properties, without the precision.
        precision: as :func:`rtseg.engines.openvino_precision.possible_hints` takes it.
        cache_dir: where compiled networks are kept; None for the user's cache.

    Raises:
        EngineError: OpenVINO or the processor cannot compute it.
    """
    hints = possible_hints(core, read, precision)
    kept = None
    if len(hints) > 1:
        kept = _kept_choice(core, read, path, {**config, _PRECISION: hints}, cache_dir)
        known = recall(kept, hints)
        hints = (known,) if known else hints
    compiled = {
        hint: _compile(core, read, path, {**config, _PRECISION: hint}, cache_dir) for hint in hints
    }
    if len(compiled) == 1:
        return compiled[hints[0]]
    best = quickest(compiled)
    remember(kept, best)
    return compiled[best]


def _kept_choice(
    core: Any, read: ReadNetwork, path: Path, config: dict[str, Any], cache_dir: Path | None
) -> Path | None:
    folder = writable_cache(cache_dir, _cache_part(core, config))
    spec = read.adapted.spec
    network = hashlib.sha256(f"{network_sha256(path)} {spec.width}x{spec.height}".encode())
    return folder / f"precision-{network.hexdigest()[:16]}" if folder else None


def _compile(
    core: Any, read: ReadNetwork, path: Path, config: dict[str, Any], cache_dir: Path | None
) -> Any:
    folder = writable_cache(cache_dir, _cache_part(core, config))
    cached = {"CACHE_DIR": str(folder)} if folder else {}
    try:
        try:
            return core.compile_model(read.network, "CPU", {**config, **cached})
        except RuntimeError as error:
            if not cached:
                raise
            # A full disk or somebody's broken cache must not keep a network from running.
            _log.info("compiling without a cache: %s", onnxfile.one_line(error))
            return core.compile_model(read.network, "CPU", config)
    except RuntimeError as error:
        why = (
            onnxfile.one_line(error)
            if path.suffix.lower() == ".xml"
            else onnxfile.explain_rejection(read.adapted.model, error)
        )
        raise EngineError(
            f"OpenVINO cannot compile {path}: {why}", reason="ENGINE_UNSUPPORTED"
        ) from error


def _cache_part(core: Any, config: dict[str, Any]) -> str:
    """Return a folder name for what a compiled network depends on besides the network.

    OpenVINO keys its cache by network and some of this, but not by all: asked for FP16 it
    loads what was compiled for FP32 (seen in 2026.4).
    """
    openvino = load_openvino()
    machine = [core.get_property("CPU", key) for key in ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE")]
    machine.append(sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")))
    digest = hashlib.sha256(repr((machine, sorted(config.items()))).encode()).hexdigest()
    return f"openvino-{openvino.get_version().split('-')[0]}-{digest[:12]}"
