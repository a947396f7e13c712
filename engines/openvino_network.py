"""A network as the CPU engine gives it to OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtseg.engines import onnxfile, openvino_tail
from rtseg.engines.adapt import AdaptedModel, adapt_onnx
from rtseg.engines.concat import quantise_before_concat
from rtseg.engines.cut import cut_upsampling
from rtseg.engines.errors import EngineError
from rtseg.engines.processor import adds_bytes_exactly
from rtseg.engines.unsigned import quantise_unsigned
from rtseg.engines.upsample import LabelUpsampler

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
