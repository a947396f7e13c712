"""A network as the CPU engine gives it to OpenVINO, and what OpenVINO is to compute it in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtseg.engines import onnxfile, openvino_tail
from rtseg.engines.adapt import AdaptedModel, adapt_onnx
from rtseg.engines.concat import quantise_before_concat
from rtseg.engines.cut import cut_upsampling
from rtseg.engines.errors import EngineError
from rtseg.engines.processor import adds_bytes_exactly, multiplies_bf16_matrices
from rtseg.engines.unsigned import quantise_unsigned
from rtseg.engines.upsample import LabelUpsampler

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""Our names of the float precisions, and OpenVINO's."""

_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16"}
_MOSTLY_INT8 = 0.9  # of the convolutions


@dataclass(frozen=True)
class ReadNetwork:
    """A network before it is compiled.

    Attributes:
        adapted: its description.
        network: OpenVINO's ``Model``.
        upsampler: brings its scores to class ids of the full size; None where it gives those.
        mostly_int8: whether little of it is computed in floating point.
    """

    adapted: AdaptedModel
    network: Any
    upsampler: LabelUpsampler | None
    mostly_int8: bool


def read_network(core: Any, path: Path, size: tuple[int, int] | None = None) -> ReadNetwork:
    """Read an ONNX file or an IR's ``.xml``, and rewrite it as OpenVINO computes it best.

    Args:
        core: an ``openvino.Core``.
        path: the file, ours or foreign.
        size: width and height in pixels, for a network that takes any.

    Raises:
        EngineError: the file cannot be used.
    """
    if path.suffix.lower() == ".xml":
        from rtseg.engines.openvino_ir import adapt_ir

        adapted = adapt_ir(core, path, size)
        network, grid = openvino_tail.cut_upsampling(adapted.model)
        upsampler = None if grid is None else LabelUpsampler(*grid)
        return ReadNetwork(adapted, network, upsampler, mostly_int8=False)
    adapted = adapt_onnx(path, size)
    quantise_before_concat(adapted.model)
    quantise_unsigned(adapted.model, finer=adds_bytes_exactly())
    # OpenVINO spends twice the upsampler's time on Resize and ArgMax (ONNX Runtime does not).
    grid = cut_upsampling(adapted.model)
    upsampler = None if grid is None else LabelUpsampler(*grid)
    mostly_int8 = onnxfile.quantised_share(adapted.model) >= _MOSTLY_INT8
    try:
        network = core.read_model(adapted.serialise())
    except RuntimeError as error:
        raise EngineError(
            f"OpenVINO cannot read {path}: {onnxfile.explain_rejection(adapted.model, error)}",
            reason="ENGINE_UNSUPPORTED",
        ) from error
    return ReadNetwork(adapted, network, upsampler, mostly_int8)


def precision_config(core: Any, read: ReadNetwork, asked: str | None) -> dict[str, Any]:
    """Return OpenVINO's properties for a precision.

    Args:
        core: an ``openvino.Core``.
        read: the network.
        asked: ``fp32``, ``bf16``, ``fp16``, ``int8``; None or ``auto`` for the fastest.

    Raises:
        EngineError: ``ENGINE_UNSUPPORTED``: the processor does not compute in it.
    """
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if asked in (None, "auto", "int8") and read.adapted.spec.precision == "int8":
        # Of the little that is left BF16 is no quicker, unless there are instructions for it.
        stays = read.mostly_int8 and not multiplies_bf16_matrices()
        return {"INFERENCE_PRECISION_HINT": "f32"} if stays else {}
    if asked in (None, "auto"):
        return {"INFERENCE_PRECISION_HINT": "bf16" if "BF16" in able else "f32"}
    assert asked is not None
    if _CAPABILITIES.get(asked, "FP32") not in able:
        raise cannot_compute(core, asked)
    return {"INFERENCE_PRECISION_HINT": HINTS[asked]}


def cannot_compute(core: Any, asked: str) -> EngineError:
    """Return the error for a precision that the processor does not compute in."""
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    usable = [n for n in HINTS if n != asked and _CAPABILITIES.get(n, "FP32") in able]
    return EngineError(
        f"this processor does not compute in {asked.upper()}. Allowed: {', '.join(usable)}",
        reason="ENGINE_UNSUPPORTED",
    )
