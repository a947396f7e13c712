"""Reading an ONNX file, so that whatever is wrong with it comes out as one line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.engines.errors import EngineError
from rtseg.engines.ports import Port

_QUANTISED_OPS = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "org.openvinotoolkit"}
_OTHER_FORMATS = {
    ".pt": "a PyTorch checkpoint",
    ".pth": "a PyTorch checkpoint",
    ".keras": "a Keras model",
    ".h5": "a Keras model",
    ".tflite": "a LiteRT model",
    ".engine": "a TensorRT plan",
    ".plan": "a TensorRT plan",
    ".xml": "an OpenVINO IR",
    ".bin": "the weights of an OpenVINO IR (name its .xml)",
}


def check_file(path: Path) -> None:
    """Check that ``path`` is a file with something in it.

    Raises:
        EngineError: ``NOT_FOUND`` where it is missing or a folder, ``PERMISSION_DENIED``, or
            ``ENGINE_DAMAGED`` where it is empty.
    """
    try:
        if path.is_dir():
            inside = [file for kind in ("*.xml", "*.onnx") for file in sorted(path.glob(kind))]
            raise EngineError(
                f"{path} is a directory, not an engine file (.onnx or .xml)"
                + (f"; in it: {', '.join(file.name for file in inside[:3])}" if inside else ""),
                reason="NOT_FOUND",
            )
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise EngineError(f"engine file not found: {path}", reason="NOT_FOUND") from error
    except PermissionError as error:
        raise EngineError(f"no permission to read {path}", reason="PERMISSION_DENIED") from error
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}", reason="NOT_FOUND") from error
    if empty:
        raise EngineError(f"{path} is empty", reason="ENGINE_DAMAGED")


def load_onnx(path: Path) -> Any:
    """Read and check an ONNX file with its weights.

    Returns:
        The ``onnx.ModelProto``.

    Raises:
        EngineError: not there, not ONNX, damaged, or with operators that ONNX does not
            know; names the first of them.
    """
    check_file(path)
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path))
    except DecodeError as error:
        kind = _OTHER_FORMATS.get(path.suffix.lower())
        raise EngineError(
            f"{path} is {kind}, not ONNX: export the network to ONNX first"
            if kind
            else f"{path} is not an ONNX file, or it is damaged",
            reason="ENGINE_UNSUPPORTED" if kind else "ENGINE_DAMAGED",
        ) from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise EngineError(  # weights kept in a second file
            f"{path} is incomplete: {one_line(error)}", reason="ENGINE_DAMAGED"
        ) from error
    if not model.graph.node:
        raise EngineError(f"{path} holds no network, or it is damaged", reason="ENGINE_DAMAGED")
    _check_names(model, path)
    _check_operators(model, path)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise EngineError(
            f"{path} is damaged: {one_line(error)}", reason="ENGINE_DAMAGED"
        ) from error
    except ValueError as error:  # over 2 GB: the checker takes it as a path only
        raise EngineError(
            f"{path} is too large for a live network: {one_line(error)}",
            reason="ENGINE_UNSUPPORTED",
        ) from error
    model = _inlined(model, path)
    _weights_are_constants(model)
    return model


def _weights_are_constants(model: Any) -> None:
    """Take weights out of the graph's inputs, and bring those stored in less to FP32, in place.

    Old files list every weight as an input with a default. Weights that are only stored as FP16
    or BF16 have a Cast behind them.
    """
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
    model.ir_version = max(model.ir_version, 4)  # the first where weights need not be inputs
    short = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    for node in [node for node in graph.node if node.op_type == "Cast"]:
        weight = weights.get(node.input[0])
        if weight is None or weight.data_type not in short:
            continue
        if next(a.i for a in node.attribute if a.name == "to") != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    read = {name for node in graph.node for name in (*node.input, *captured(node))}
    read |= {value.name for value in graph.output}
    for weight in [w for w in graph.initializer if w.data_type in short and w.name not in read]:
        graph.initializer.remove(weight)


def _inlined(model: Any, path: Path) -> Any:
    """Return a network whose own functions, as PyTorch 2.1 to 2.4 writes them, are plain nodes."""
    if not model.functions:
        return model
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # raised in C++, of no one type
        raise EngineError(
            f"{path}: the functions that the file brings cannot be resolved: {one_line(error)}",
            reason="ENGINE_UNSUPPORTED",
        ) from error


def _check_names(model: Any, path: Path) -> None:
    """Refuse names that are no UTF-8: they come as bytes, which nothing here or in ONNX expects."""
    graph = model.graph
    names = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    for node in graph.node:
        names += [node.op_type, node.domain, node.name, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    for name in names:
        if not isinstance(name, str):
            raise EngineError(f"{path} is damaged: a name is {name!r}", reason="ENGINE_DAMAGED")


def _check_operators(model: Any, path: Path) -> None:
    import onnx

    own = {(function.domain, function.name) for function in model.functions}
    versions = {opset.domain: opset.version for opset in model.opset_import}
    for node in model.graph.node:
        if (node.domain, node.op_type) in own or node.domain not in ("", "ai.onnx"):
            continue
        try:
            onnx.defs.get_schema(node.op_type, versions.get("", 1), "")
        except onnx.defs.SchemaError as error:
            raise EngineError(
                f"{path}: ONNX opset {versions.get('', 1)} has no operator {node.op_type} "
                f"(node {node.name or ', '.join(node.output) or '?'!r})",
                reason="ENGINE_UNSUPPORTED",
            ) from error


def explain_rejection(model: Any, error: BaseException) -> str:
    """Say in one line why a runtime refused a network, with operator and node if it names one.

    Args:
        model: the ``onnx.ModelProto``.
        error: what the runtime raised.
    """
    text = str(error)
    for node in model.graph.node:
        if node.name.startswith("rtseg/"):  # ours: never what a reader can do something about
            continue
        unusual = node.domain not in _KNOWN_DOMAINS
        named = f"{node.domain}.{node.op_type}" in text or f"{node.domain}:{node.op_type}" in text
        named = named or (bool(node.name) and _holds_name(text, node.name))
        if named or (unusual and node.op_type in text):
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            where = f"operator {operator} (node {node.name or node.output[0]!r})"
            refused = unusual or "support" in text.lower() or "implement" in text.lower()
            return f"{where} is not supported" if refused else f"{where}: {one_line(error)}"
    return one_line(error)


def _holds_name(text: str, name: str) -> bool:
    """Tell whether a text holds a name as a whole: not Conv_1 where it speaks of Conv_12."""
    return re.search(rf"(?<![\w./]){re.escape(name)}(?![\w/]|\.\w)", text) is not None


def one_line(error: BaseException, limit: int = 240) -> str:
    """Return an exception's message as one line, its most telling part, at most ``limit`` long."""
    lines = [line.strip() for line in str(error).splitlines()]
    # OpenVINO begins with the source lines that the exception came through.
    lines = [
        line for line in lines if line and not line.startswith(("Exception from", "While val"))
    ]
    text = " ".join(lines) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def ports_of(values: Iterable[Any]) -> list[Port]:
    """Return a graph's inputs or outputs (``ValueInfoProto``) as ports."""
    from onnx import TensorProto, helper

    ports = []
    for value in values:
        tensor = value.type.tensor_type
        dtype = "unknown"
        if value.type.HasField("tensor_type") and tensor.elem_type:
            if tensor.elem_type == TensorProto.BFLOAT16:
                dtype = "bfloat16"
            elif tensor.elem_type in TensorProto.DataType.values():
                dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        shape = None
        if tensor.HasField("shape"):
            shape = tuple(
                axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None
                for axis in tensor.shape.dim
            )
        ports.append(Port(value.name, dtype, shape))
    return ports


def is_quantised(model: Any) -> bool:
    """Tell whether a network computes in INT8 (Q/DQ nodes or quantised operators)."""
    return any(node.op_type in _QUANTISED_OPS for node in model.graph.node)


def quantised_share(model: Any) -> float:
    """Return the share of a network's convolutions that compute in INT8, 0 to 1."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    quantised = {"QLinearConv": True, "ConvInteger": True}
    found = [
        quantised.get(node.op_type, makers.get(node.input[0]) == "DequantizeLinear")
        for node in model.graph.node
        if node.op_type in ("Conv", "ConvTranspose", *quantised)
    ]
    return sum(found) / len(found) if found else 0.0


def is_half(model: Any) -> bool:
    """Tell whether most weights of a network are FP16."""
    from onnx import TensorProto

    sizes = {True: 0, False: 0}
    for weight in model.graph.initializer:
        count = 1
        for length in weight.dims:
            count *= length
        sizes[weight.data_type == TensorProto.FLOAT16] += count
    return sizes[True] > sizes[False]


def unsafe_optimizers(model: Any) -> list[str]:
    """Return the optimisers of ONNX Runtime that must not touch a network.

    Where scales are FP16, ``WeightBiasQuantization`` multiplies those of input and weight to a
    bias scale in FP16, too, whose smallest step is far above it (ONNX Runtime 1.20 to 1.27).
    """
    from onnx import TensorProto

    constants = {weight.name: weight.data_type for weight in model.graph.initializer}
    half = any(
        constants.get(node.input[1]) == TensorProto.FLOAT16
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    )
    return ["WeightBiasQuantization"] if half else []


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def external_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold weights of it, sorted; damaged ones none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError):
        return []
    names = {
        entry.value
        for weight in model.graph.initializer
        if weight.data_location == onnx.TensorProto.EXTERNAL
        for entry in weight.external_data
        if entry.key == "location"
    }
    return [file for name in sorted(names) if (file := path.parent / name).is_file()]


def constants_to_initializers(model: Any) -> None:
    """Turn Constant nodes of numbers into initializers, in place; others stay."""
    from onnx import helper, numpy_helper

    graph = model.graph
    for node in [n for n in graph.node if n.op_type == "Constant"]:
        attribute = node.attribute[0]
        value = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            array = numpy_helper.to_array(value)
        elif attribute.name in ("value_float", "value_floats"):
            array = np.asarray(value, np.float32)
        elif attribute.name in ("value_int", "value_ints"):
            array = np.asarray(value, np.int64)
        else:
            continue
        graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        graph.node.remove(node)


class FreshNames:
    """Gives names that no tensor of a network has, nor was given before."""

    def __init__(self, model: Any) -> None:
        graph = model.graph
        self._taken = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
        for node in graph.node:
            self._taken.update(node.input, node.output, captured(node))

    def __call__(self, wanted: str) -> str:
        """Return ``wanted``, with underscores behind it where that is taken."""
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted


def captured(node: Any) -> set[str]:
    """Return the tensors that a node's branches or loop bodies read, its own inputs left out.

    What the branches make themselves is among them, too.
    """
    graphs = [
        graph
        for attribute in node.attribute
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
    ]
    return {
        name
        for graph in graphs
        for inner in graph.node
        for name in (*inner.input, *captured(inner))
    }


def name_nodes(model: Any) -> None:
    """Give every node a name of its own, in place."""
    taken: set[str] = set()
    for node in model.graph.node:
        name = node.name or f"{node.op_type}_{node.output[0]}"
        while name in taken:
            name += "_"
        taken.add(name)
        node.name = name
