"""An ONNX file whose types are FP16: TensorRT computes in the types of the file.

TensorRT 11 has no precision flags left, so FP16 is made here, once, for every runtime. Frames
and class ids stay uint8, normalisation, upsampling and argmax FP32; see
:mod:`rtseg.engines.half`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rtseg.engines.deployable import read_deployable, set_description
from rtseg.engines.errors import EngineError
from rtseg.engines.half import half_types
from rtseg.engines.spec import METADATA_KEY, EngineSpec
from rtseg.engines.wholefile import is_full, write_whole


def to_fp16(model: Any) -> Any:
    """Return a copy of a network with FP16 in place of FP32, and a description that says so.

    INT8 networks keep their integers; the scales of Q/DQ become FP16, which needs opset 19.

    Args:
        model: an ``onnx.ModelProto`` with FP32 types.

    Raises:
        EngineError: as :func:`rtseg.engines.half.half_types`.
    """
    result = half_types(model).model
    for entry in result.metadata_props:
        if entry.key == METADATA_KEY:
            spec = EngineSpec.from_json(entry.value)
            if spec.precision == "fp32":
                entry.value = replace(spec, precision="fp16").to_json()
    return result


def convert_fp16(source: Path, output: Path, size: tuple[int, int] | None = None) -> None:
    """Write the FP16 form of an FP32 or INT8 network, ours or foreign, with its description.

    Args:
        source: the ONNX file; what the note beside it says goes into the new one.
        output: the new file.
        size: width and height in pixels, for a network that takes any.

    Raises:
        EngineError: the source cannot be read or converted, or the output not written.
    """
    network = read_deployable(source, size)
    set_description(network.model, network.spec)
    content = to_fp16(network.model).SerializeToString(deterministic=True)
    try:
        write_whole(output, content)
    except OSError as error:
        kind = "PERMISSION_DENIED" if isinstance(error, PermissionError) else "NOT_FOUND"
        raise EngineError(
            f"cannot write {output}: {error.strerror or error}",
            reason="NO_SPACE" if is_full(error) else kind,
        ) from error
