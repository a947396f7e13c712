"""What OpenVINO is to compute a network in, on the processor at hand.

With AMX, BF16 is much faster than FP32. Without, its products take as long as FP32's on an Intel
Xeon and half as long on an AMD Zen 4, and it depends on the network what its smaller size makes
of that: from 1.6 times slower to 2 times faster were seen. So there it is tried.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.engines.cache import keep
from rtseg.engines.errors import EngineError
from rtseg.engines.openvino_network import ReadNetwork
from rtseg.engines.processor import multiplies_bf16_matrices

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""Our names of the float precisions, and OpenVINO's."""

_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16"}
_ROUNDS = 3
_LONG_S = 0.25
_WORTH = 1.05  # times as fast, for what is less exact

_log = logging.getLogger(__name__)


def possible_hints(core: Any, read: ReadNetwork, asked: str | None) -> tuple[str, ...]:
    """Return what a precision may be for OpenVINO (``INFERENCE_PRECISION_HINT``).

    Args:
        core: an ``openvino.Core``.
        read: the network.
        asked: ``fp32``, ``bf16``, ``fp16``, ``int8``; None or ``auto`` for the fastest.

    Returns:
        Several, the most exact first, where only a trial tells which is the fastest. Of an INT8
        network they are for what is not INT8.

    Raises:
        EngineError: ``ENGINE_UNSUPPORTED``: the processor does not compute in it.
    """
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    quantised = read.adapted.spec.precision == "int8"
    if asked in (None, "auto") or (asked == "int8" and quantised):
        if "BF16" not in able:
            return ("f32",)
        if multiplies_bf16_matrices():
            return ("bf16",)
        # Of the little that is left of an INT8 network BF16 is no quicker.
        return ("f32",) if quantised and read.mostly_int8 else ("f32", "bf16")
    assert asked is not None
    if _CAPABILITIES.get(asked, "FP32") not in able:
        raise cannot_compute(core, asked)
    return (HINTS[asked],)


def cannot_compute(core: Any, asked: str) -> EngineError:
    """Return the error for a precision that the processor does not compute in."""
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    usable = [n for n in HINTS if n != asked and _CAPABILITIES.get(n, "FP32") in able]
    return EngineError(
        f"this processor does not compute in {asked.upper()}. Allowed: {', '.join(usable)}",
        reason="ENGINE_UNSUPPORTED",
    )


def quickest(compiled: Mapping[str, Any]) -> str:
    """Return the name of the network that computes a frame in the least time.

    A later one has to be 5 % quicker than those before it.

    Args:
        compiled: one network, compiled in several ways (``openvino.CompiledModel``).
    """
    requests = {name: network.create_infer_request() for name, network in compiled.items()}
    frame = np.zeros(next(iter(compiled.values())).inputs[0].shape, np.uint8)
    frame[..., ::2, ::2, :] = 255
    times_s = {name: _run_s(request, frame) for name, request in requests.items()}  # warm-up
    for _ in range(_ROUNDS if max(times_s.values()) < _LONG_S else 1):
        for name, request in requests.items():
            times_s[name] = min(times_s[name], _run_s(request, frame))
    best = next(iter(times_s))
    for name, time_s in times_s.items():
        if time_s * _WORTH < times_s[best]:
            best = name
    _log.info(
        "tried: %s; taken: %s",
        ", ".join(f"{name} {time_s * 1e3:.1f} ms" for name, time_s in times_s.items()),
        best,
    )
    return best


def recall(file: Path | None, among: tuple[str, ...]) -> str | None:
    """Return what :func:`remember` wrote, if it is one of ``among``."""
    try:
        found = file.read_text(encoding="utf-8") if file else ""
    except (OSError, UnicodeDecodeError):
        return None
    return found if found in among else None


def remember(file: Path | None, chosen: str) -> None:
    """Keep the outcome of a trial, so that the next start needs none; failing is no harm."""
    if file is None:
        return
    try:
        keep(file, chosen.encode())
    except OSError as error:
        _log.info("the choice of a precision is not kept: %s", error)


def _run_s(request: Any, frame: np.ndarray[Any, Any]) -> float:
    began_s = time.perf_counter()
    request.infer([frame])
    return time.perf_counter() - began_s
