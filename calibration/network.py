"""A float network as quantisation wants it: normalised ONNX with its convolutions named.

BatchNorms are folded into the convolutions before them, constants are initialisers, every
node has a name, and the opset is at least 19 (the first whose Q/DQ scales may be FP16).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.deployable import drop_unused
from rtseg.engines.errors import EngineError
from rtseg.engines.fingerprint import network_sha256
from rtseg.engines.lookup import is_file
from rtseg.engines.onnxfile import (
    FreshNames,
    captured,
    constants_to_initializers,
    is_half,
    is_quantised,
    load_onnx,
    name_nodes,
)
from rtseg.engines.spec import METADATA_KEY, EngineSpec

OPSET = 19
IR_VERSION = 9
"""The file format of opset 19's time: TensorRT 10.3's parser reads it."""

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class FloatNetwork:
    """A float network, ready to be observed and quantised.

    Attributes:
        model: the normalised ``onnx.ModelProto``; shared, never written to.
        spec: what the network says of itself.
        sha256: hash of the source, and of the size where one was asked for.
        convs: names of its convolutions with constant weights, in the order they run.
        shapes: shape of each tensor, 0 where a dimension is free.
    """

    model: Any
    spec: EngineSpec
    sha256: str
    convs: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]


def load_network(
    source: Path, *, spec: EngineSpec | None = None, size: tuple[int, int] | None = None
) -> FloatNetwork:
    """Read a float ONNX network and normalise it.

    A network without a description of ours is first made to take frames and give class ids,
    as an engine would; see :func:`rtseg.engines.adapt.adapt_onnx`.

    Args:
        source: the ONNX file.
        spec: description of a network that carries none, to take it as it is.
        size: width and height in pixels, for a network that takes any.

    Raises:
        CalibrationError: ``NOT_FOUND``, or ``BAD_NETWORK`` where the file is no ONNX
            network that segments, is FP16 or quantised already, has no convolution or is
            made for another size.
    """
    if not is_file(source):
        raise CalibrationError(f"no such network: {source}", reason="NOT_FOUND")
    try:
        model = load_onnx(source)
        described = _spec_of(model) or spec
        if described is None:
            adapted = adapt_onnx(source, size)
            model, described = adapted.model, adapted.spec
            del model.graph.output[1:]
    except EngineError as error:
        raise CalibrationError(str(error), reason="BAD_NETWORK") from error
    for what, is_so in (("quantised already", is_quantised), ("FP16", is_half)):
        if is_so(model):
            raise CalibrationError(
                f"{source} is {what}; INT8 is made from the FP32 network", reason="BAD_NETWORK"
            )
    described = _of_size(model, described, size, source)
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise CalibrationError(
            f"{source} has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs; "
            "exactly one of each is allowed",
            reason="BAD_NETWORK",
        )
    model = _normalise(model)
    constants = _initializers(model)
    convs = tuple(
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in constants
    )
    if not convs:
        raise CalibrationError(f"{source} has no convolution to quantise", reason="BAD_NETWORK")
    _check_finite(constants, source)
    sha256 = network_sha256(source)
    if size is not None:  # what it was calibrated at is part of what was calibrated
        sha256 = hashlib.sha256(f"{sha256} {size[0]}x{size[1]}".encode()).hexdigest()
    return FloatNetwork(model, described, sha256, convs, _shapes(model))


def _of_size(
    model: Any, spec: EngineSpec, size: tuple[int, int] | None, source: Path
) -> EngineSpec:
    """Return the description of a network at the size asked for."""
    if size is None or size == (spec.width, spec.height):
        return spec
    dims = list(model.graph.input[0].type.tensor_type.shape.dim)
    rows, columns = dims[2:4] if spec.input_kind == "float_nchw" else dims[1:3]
    if rows.dim_value or columns.dim_value:
        raise CalibrationError(
            f"{source} is made for {spec.width}x{spec.height} (width x height). "
            f"Received: {size[0]}x{size[1]}",
            reason="BAD_NETWORK",
        )
    return replace(spec, width=size[0], height=size[1])


def consumers_of(model: Any) -> dict[str, list[tuple[Any, int]]]:
    """Return, for each tensor, the nodes that read it with the position of that input."""
    found: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name:
                found[name].append((node, position))
    return found


def producers_of(model: Any) -> dict[str, Any]:
    """Return, for each tensor, the node that writes it."""
    return {name: node for node in model.graph.node for name in node.output if name}


def logits_tensor(network: FloatNetwork) -> str:
    """Return the output of the last convolution before the network's own output."""
    producers = producers_of(network.model)
    names = deque([network.model.graph.output[0].name])
    seen = set(names)
    while names:
        node = producers.get(names.popleft())
        if node is None:
            continue
        if node.name in network.convs:
            return str(node.output[0])
        # Each once: the ways back through residuals double with every one of them.
        names.extend(name for name in node.input if name not in seen)
        seen.update(node.input)
    return str(network.model.graph.output[0].name)


def _spec_of(model: Any) -> EngineSpec | None:
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return EngineSpec.from_json(entry.value)
    return None


def _initializers(model: Any) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _check_finite(constants: dict[str, Any], source: Path) -> None:
    """Refuse weights that are not numbers: a ReLU6 would hide what they do."""
    from onnx import numpy_helper

    for name, tensor in constants.items():
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise CalibrationError(
                f"{source}: weight {name!r} holds NaN or infinity", reason="BAD_NETWORK"
            )


def _normalise(model: Any) -> Any:
    from onnx import version_converter

    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    metadata = [(entry.key, entry.value) for entry in model.metadata_props]
    if opset < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter's errors have no common base
            raise CalibrationError(
                f"the network cannot be brought from opset {opset} to {OPSET}: "
                f"{str(error).splitlines()[0]}",
                reason="BAD_NETWORK",
            ) from error
    if opset <= OPSET:
        model.ir_version = IR_VERSION
    del model.metadata_props[:]
    for key, value in metadata:
        model.metadata_props.add(key=key, value=value)
    constants_to_initializers(model)
    _drop_identities(model)
    _fold_batch_norms(model)
    name_nodes(model)
    drop_unused(model)
    del model.graph.value_info[:]
    return model


def _fixed(model: Any) -> set[str]:
    """Return the tensors that must keep their names: outputs, and what branches read."""
    found = {value.name for value in model.graph.output}
    return found.union(*(captured(node) for node in model.graph.node))


def _drop_identities(model: Any) -> None:
    """Remove Identity, and Dropout outside training, unless something must find their output."""
    fixed = _fixed(model)
    for node in [n for n in model.graph.node if n.op_type in ("Identity", "Dropout")]:
        if node.output[0] in fixed or len([n for n in node.output if n]) > 1:
            continue
        for reader, position in consumers_of(model)[node.output[0]]:
            reader.input[position] = node.input[0]
        model.graph.node.remove(node)


def _fold_batch_norms(model: Any) -> None:
    """Fold each BatchNormalization whose input is a convolution of its own."""
    from onnx import helper, numpy_helper

    graph = model.graph
    fixed = _fixed(model)
    fresh = FreshNames(model)
    readers = consumers_of(model)
    producers = producers_of(model)
    constants = _initializers(model)
    for norm in [n for n in graph.node if n.op_type == "BatchNormalization"]:
        conv = producers.get(norm.input[0])
        if (
            conv is None
            or conv.op_type != "Conv"
            or len(readers[conv.output[0]]) != 1
            or conv.output[0] in fixed
            or any(n not in constants for n in [conv.input[1], *norm.input[1:5]])
            or (len(conv.input) > 2 and conv.input[2] and conv.input[2] not in constants)
        ):
            continue
        arrays = [numpy_helper.to_array(constants[n]).astype(np.float64) for n in norm.input[1:5]]
        gamma, beta, mean, variance = arrays
        attributes = {a.name: helper.get_attribute_value(a) for a in norm.attribute}
        factor = gamma / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        weight = numpy_helper.to_array(constants[conv.input[1]]).astype(np.float64)
        has_bias = len(conv.input) > 2 and conv.input[2]
        bias = numpy_helper.to_array(constants[conv.input[2]]) if has_bias else np.zeros(len(mean))
        # New names: an initialiser may have other readers.
        for position, label, array in (
            (1, "weight", weight * factor.reshape(-1, *[1] * (weight.ndim - 1))),
            (2, "bias", (bias - mean) * factor + beta),
        ):
            name = fresh(f"{norm.output[0]}_folded_{label}")
            graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
            while len(conv.input) <= position:
                conv.input.append("")
            conv.input[position] = name
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
