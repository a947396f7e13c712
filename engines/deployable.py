"""A network ready to be built for a device: frames in, class ids out, nothing else.

Our own files already are; they keep their free batch. A foreign network is adapted first
(:mod:`rtseg.engines.adapt`), which settles one frame of one size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rtseg.engines import onnxfile
from rtseg.engines.adapt import adapt_onnx, fit_size
from rtseg.engines.fingerprint import network_sha256
from rtseg.engines.spec import METADATA_KEY, EngineSpec


@dataclass(frozen=True)
class Deployable:
    """A network that takes uint8 N×H×W×3 RGB frames and gives uint8 N×H×W class ids.

    Attributes:
        model: the ``onnx.ModelProto``, with one input and one output.
        spec: its description; ``source_sha256`` is never empty.
        file_sha256: hash of what it was read from (`network_sha256`).
    """

    model: Any
    spec: EngineSpec
    file_sha256: str

    @property
    def input_name(self) -> str:
        """Name of the frames' tensor."""
        return str(self.model.graph.input[0].name)

    @property
    def output_name(self) -> str:
        """Name of the class ids' tensor."""
        return str(self.model.graph.output[0].name)

    @property
    def free_batch(self) -> bool:
        """Whether the number of frames is free."""
        return not self.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value


def read_deployable(path: Path, size: tuple[int, int] | None = None) -> Deployable:
    """Read an ONNX network, ours or foreign, as one that takes frames and gives class ids.

    Args:
        path: the file.
        size: width and height in pixels, for a network that takes any.

    Raises:
        EngineError: as :func:`rtseg.engines.adapt.adapt_onnx`.
    """
    adapted = adapt_onnx(path, size)
    sha256 = network_sha256(path)
    spec = replace(adapted.spec, source_sha256=adapted.spec.source_sha256 or sha256)
    model = onnxfile.load_onnx(path)
    if size is not None and _is_described(model):
        fit_size(model, size)
    if _has_our_ports(model, spec):
        return Deployable(model, spec, sha256)
    model = adapted.model
    del model.graph.output[1:]  # the mean of the logits
    drop_unused(model)
    return Deployable(model, spec, sha256)


def drop_unused(model: Any) -> None:
    """Remove nodes and weights that no output depends on."""
    wanted = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
            wanted |= onnxfile.captured(node)
    weights = [weight for weight in model.graph.initializer if weight.name in wanted]
    nodes = list(reversed(kept))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)


def set_description(model: Any, spec: EngineSpec) -> None:
    """Write a description into a model's metadata, in place of the one there was."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    for key, value in (*kept, (METADATA_KEY, spec.to_json())):
        model.metadata_props.add(key=key, value=value)


def _is_described(model: Any) -> bool:
    return any(entry.key == METADATA_KEY for entry in model.metadata_props)


def _has_our_ports(model: Any, spec: EngineSpec) -> bool:
    """Tell whether a file is ours, of the size wanted, with nothing to be adapted."""
    if not _is_described(model):
        return False
    inputs, outputs = (
        onnxfile.ports_of(values) for values in (model.graph.input, model.graph.output)
    )
    return (
        len(inputs) == len(outputs) == 1
        and inputs[0].dtype == outputs[0].dtype == "uint8"
        and (inputs[0].shape or ())[1:] == (spec.height, spec.width, 3)
        and (outputs[0].shape or ())[1:] == (spec.height, spec.width)
    )
