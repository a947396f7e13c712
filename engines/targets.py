"""Which GPUs an engine is built for, beside the one at hand.

TensorRT builds for the GPU at hand, or, a little slower, for all from Ampere on or for all of
the same compute capability. TensorRT-RTX builds for every GPU that it supports and compiles
the rest when an engine is loaded, or ahead of time for the capabilities that are named.
"""

from __future__ import annotations

import re
from typing import Any

from rtseg.engines.cuda import Gpu
from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import PlanIdentity

THIS, ANY = "this", "any"
AMPERE, SAME = "ampere+", "same-capability"
AMPERE_SHOWN = "8.0 or newer"
_AMPERE = (8, 0)


def check_target(runtime: str, target: str) -> str:
    """Return a target in its one form; empty for the default of the runtime.

    Args:
        runtime: ``tensorrt`` or ``rtx``.
        target: what was asked for: ``this``, ``ampere+`` or ``same-capability`` for
            ``tensorrt``; ``any`` or compute capabilities as ``8.6,8.9`` for ``rtx``.

    Raises:
        EngineError: ``BAD_OPTION`` where it is something else.
    """
    if runtime == "tensorrt":
        if target in ("", THIS, AMPERE, SAME):
            return "" if target == THIS else target
        allowed = f"{THIS}, {AMPERE}, {SAME}"
    else:
        parts = [part.strip() for part in target.split(",")]
        if target in ("", ANY):
            return ""
        if all(re.fullmatch(r"\d{1,2}\.\d", part) for part in parts):
            return ",".join(sorted(set(parts), key=_numbers))
        allowed = f"{ANY}, or compute capabilities such as 8.6,8.9"
    raise EngineError(
        f"{runtime} does not build for {target!r}. Allowed: {allowed}", reason="BAD_OPTION"
    )


def shown_target(runtime: str, target: str, gpu: Gpu | None) -> tuple[str, str]:
    """Return the GPU and the compute capability that an engine file names.

    Args:
        runtime: ``tensorrt`` or ``rtx``.
        target: as :func:`check_target` gives it.
        gpu: the one at hand, which ``tensorrt`` needs.
    """
    if runtime == "rtx" or gpu is None:
        return ANY, target.replace(",", ", ") or ANY
    if target == AMPERE:
        return ANY, AMPERE_SHOWN
    if target == SAME:
        return ANY, gpu.compute_capability
    return gpu.name, gpu.compute_capability


def configure_target(trt: Any, config: Any, runtime: str, target: str) -> None:
    """Tell a builder's configuration what to build for.

    Raises:
        EngineError: ``ENGINE_UNSUPPORTED`` where this version cannot.
    """
    if not target:
        return
    version = getattr(trt, "__version__", "")
    if runtime == "tensorrt":
        name = "AMPERE_PLUS" if target == AMPERE else "SAME_COMPUTE_CAPABILITY"
        level = getattr(trt.HardwareCompatibilityLevel, name, None)
        if level is None:
            raise EngineError(
                f"TensorRT {version} does not build for {target}; a newer one does",
                reason="ENGINE_UNSUPPORTED",
            )
        config.hardware_compatibility_level = level
        return
    known = {
        name: getattr(trt.ComputeCapability, name)
        for name in dir(trt.ComputeCapability)
        if name.startswith("SM")
    }
    wanted = target.split(",")
    for capability in wanted:
        if f"SM{capability.replace('.', '')}" not in known:
            allowed = sorted((f"{name[2:-1]}.{name[-1]}" for name in known), key=_numbers)
            raise EngineError(
                f"TensorRT-RTX {version} does not build for compute capability {capability}. "
                f"Allowed: {', '.join(allowed)}",
                reason="ENGINE_UNSUPPORTED",
            )
    config.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        config.set_compute_capability(known[f"SM{capability.replace('.', '')}"], index)


def misfit(identity: PlanIdentity, runtime_version: str, gpu: Gpu) -> str:
    """Say why an engine cannot run here, in a few words; empty where it can.

    Args:
        identity: what the engine was built for.
        runtime_version: version of the same runtime here.
        gpu: the GPU here.
    """
    if identity.runtime_version != runtime_version:
        return (
            f"built with {identity.backend} {identity.runtime_version}, here it is "
            f"{runtime_version}"
        )
    capability, mine = identity.compute_capability, gpu.compute_capability
    fits = (
        capability == ANY
        or mine in capability.split(", ")
        or (capability == AMPERE_SHOWN and _numbers(mine) >= _AMPERE)
    )
    if not fits:
        return f"built for compute capability {capability}, here it is {mine}"
    if identity.gpu not in (ANY, gpu.name):
        return f"built for the GPU {identity.gpu}, here it is {gpu.name}"
    return ""


def _numbers(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))
