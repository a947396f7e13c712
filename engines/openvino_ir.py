"""Reads an OpenVINO IR and makes it take frames and give class ids, as ``adapt`` does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.engines import onnxfile, ports
from rtseg.engines.adapt import (
    AdaptedModel,
    choose_classes,
    describe,
    note_of,
    refuse_normalisation_of_uint8,
    warn_of_assumptions,
)
from rtseg.engines.described import described_by_ir, fill_note
from rtseg.engines.errors import EngineError
from rtseg.engines.graph import FRAMES, LABELS, LOGIT_MEAN
from rtseg.engines.labels import VOID_ID
from rtseg.engines.one_channel import choose_threshold, openvino_operations
from rtseg.engines.openvino_runtime import load_openvino
from rtseg.engines.openvino_tail import before_enlarging, ids_in_floats, scores_behind
from rtseg.engines.ports import ImageInput, Port, SegmentationOutput
from rtseg.engines.sidecar import read_sidecar
from rtseg.engines.spec import METADATA_KEY, EngineSpec, Precision


def adapt_ir(core: Any, path: Path, size: tuple[int, int] | None = None) -> AdaptedModel:
    """Read an IR (``.xml`` with its ``.bin``), ours or foreign.

    An IR converted from one of our ONNX files has kept the description.

    Args:
        core: OpenVINO's ``Core``.
        path: the ``.xml`` file.
        size: width and height in pixels, for a network that takes any.

    Returns:
        The network; ``model`` is an ``openvino.Model``.

    Raises:
        EngineError: as :func:`rtseg.engines.adapt.adapt_onnx`.
    """
    onnxfile.check_file(path)
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise EngineError(
            f"{path} is not an OpenVINO IR, or it is damaged: {onnxfile.one_line(error)}",
            reason="ENGINE_DAMAGED",
        ) from error
    carried = _carried_spec(model)
    note = note_of(carried) if carried else read_sidecar(path)
    inputs = ports_of(model.inputs)
    image = ports.choose_input(inputs, size or note.size, note.input)
    refuse_normalisation_of_uint8(image, note, path, known=carried is not None)
    try:
        model.reshape({model.inputs[0]: list(image.shape)})
    except RuntimeError as error:
        raise EngineError(
            f"{path} does not take {image.width}x{image.height}: {onnxfile.one_line(error)}",
            reason="ENGINE_MISMATCH",
        ) from error
    output = ports.choose_output(ports_of(model.outputs), image, note.output)
    end = _end_of(model, output)
    output = ids_in_floats(end, output)
    scores, described = scores_behind(end, output)
    if described and (note.classes is None or len(note.classes) == described.channels):
        end, output = scores, described
    if carried is None:
        note = fill_note(note, described_by_ir(model), image, output)
    use_channels, classes = choose_classes(note, output, path)
    threshold = choose_threshold(note, output, openvino_operations(end.get_node()), path)
    spec = describe(note, image, classes, _precision(model), path)
    wrapped = _wrap(model, image, output, end, spec, use_channels, threshold)
    assumed: tuple[str, ...] = ()
    if carried:
        spec = replace(
            carried,
            height=spec.height,
            width=spec.width,
            input_kind="uint8_nhwc_rgb",
            output_kind="labels",
        )
    else:
        assumed = warn_of_assumptions(note, image, output, classes, path, threshold)
    return AdaptedModel(wrapped, spec, output.kind == "logits", assumed)


def ports_of(values: Iterable[Any]) -> list[Port]:
    """Return an OpenVINO network's inputs or outputs as ports."""
    found = []
    for position, value in enumerate(values):
        name = value.get_any_name() if value.get_names() else f"#{position}"
        try:
            dtype = str(value.element_type.to_dtype())
        except RuntimeError:
            dtype = value.element_type.get_type_name()
        if value.element_type.get_type_name() == "bf16":
            dtype = "bfloat16"
        shape = value.partial_shape
        axes = None
        if not shape.rank.is_dynamic:
            axes = tuple(None if axis.is_dynamic else axis.get_length() for axis in shape)
        found.append(Port(name, dtype, axes))
    return found


def _carried_spec(model: Any) -> EngineSpec | None:
    keys = ["framework", METADATA_KEY]
    if not model.has_rt_info(keys):
        return None
    return EngineSpec.from_json(model.get_rt_info(keys).astype(str))


def _precision(model: Any) -> Precision:
    kinds = [node.get_type_name() for node in model.get_ops()]
    if "FakeQuantize" in kinds or "QuantizeLinear" in kinds:
        return "int8"
    sizes: dict[str, int] = {}
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            element = node.get_element_type().get_type_name()
            sizes[element] = sizes.get(element, 0) + int(np.prod(node.get_output_shape(0)))
    return "fp16" if sizes.get("f16", 0) > sizes.get("f32", 0) else "fp32"


def _wrap(
    model: Any,
    image: ImageInput,
    output: SegmentationOutput,
    end: Any,
    spec: EngineSpec,
    use_channels: int | None,
    threshold: float,
) -> Any:
    """Return a network around ``model`` with the head and the tail of :mod:`graph`."""
    openvino = load_openvino()
    from openvino import opset13 as ops

    frames = ops.parameter([1, spec.height, spec.width, 3], np.uint8, name=FRAMES)
    tensor = frames
    if image.dtype != "uint8":
        tensor = ops.convert(tensor, "f32")
    if image.layout == "nchw":
        tensor = ops.transpose(tensor, np.array([0, 3, 1, 2], np.int64))
    channel_axis = 1 if image.layout == "nchw" else 3
    if spec.bgr:
        tensor = ops.gather(tensor, np.array([2, 1, 0], np.int64), np.int64(channel_axis))
    if image.dtype != "uint8":
        shape = [1, 1, 1, 1]
        shape[channel_axis] = 3
        std = np.asarray(spec.std, np.float64)
        factor = (1.0 / (spec.scale * std)).astype(np.float32).reshape(shape)
        offset = (-np.asarray(spec.mean, np.float64) / std).astype(np.float32).reshape(shape)
        tensor = ops.add(ops.multiply(tensor, factor), offset)
        tensor = ops.convert(tensor, model.inputs[0].element_type.get_type_name())

    for target in model.inputs[0].get_target_inputs():
        target.replace_source_output(tensor.output(0))
    results = []
    if output.kind == "labels":
        tensor = _labels(ops, end, output, spec)
    else:
        tensor, mean = _logits(ops, end, output, spec, use_channels, threshold)
        mean.output(0).set_names({LOGIT_MEAN})
        results.append(ops.result(mean, name=LOGIT_MEAN))
    frames.output(0).set_names({FRAMES})
    tensor.output(0).set_names({LABELS})
    results.insert(0, ops.result(tensor, name=LABELS))
    return openvino.Model(results, [frames], spec.network)


def _end_of(model: Any, output: SegmentationOutput) -> Any:
    """Return what feeds the result of this name."""
    position = [port.name for port in ports_of(model.outputs)].index(output.name)
    return model.outputs[position].get_node().input_value(0)


def _logits(
    ops: Any,
    end: Any,
    output: SegmentationOutput,
    spec: EngineSpec,
    use_channels: int | None,
    threshold: float,
) -> tuple[Any, Any]:
    tensor = ops.convert(end, "f32")
    if output.axes < 4:
        tensor = ops.reshape(tensor, np.array(output.shape, np.int64), False)
    if output.layout == "nhwc":
        tensor = ops.transpose(tensor, np.array([0, 3, 1, 2], np.int64))
    if use_channels is not None:
        bounds = [np.array([n], np.int64) for n in (0, use_channels, 1, 1)]
        tensor = ops.slice(tensor, *bounds)
    # Where the network enlarges its scores, of the small ones: as good, and next to no work.
    whole = use_channels is None
    measured = ops.convert(before_enlarging(end), "f32") if whole else tensor
    axes = np.arange(len(measured.output(0).get_partial_shape()), dtype=np.int64)
    mean = ops.reduce_mean(measured, axes, keep_dims=False)
    if output.channels == 1:
        tensor = ops.concat([ops.subtract(np.float32(2 * threshold), tensor), tensor], 1)
    if (output.height, output.width) != (spec.height, spec.width):
        tensor = ops.interpolate(
            tensor,
            np.array([spec.height, spec.width], np.int64),
            "linear_onnx",
            "sizes",
            axes=np.array([2, 3], np.int64),
            coordinate_transformation_mode="half_pixel",
        )
    best = ops.topk(tensor, np.int64(1), 1, "max", "none").output(1)
    return ops.convert(ops.squeeze(best, np.int64(1)), "u8"), mean


def _labels(ops: Any, end: Any, output: SegmentationOutput, spec: EngineSpec) -> Any:
    grid = np.array([1, 1, output.height, output.width], np.int64)
    tensor = ops.convert(ops.reshape(end, grid, False), "f32")
    if (output.height, output.width) != (spec.height, spec.width):
        tensor = ops.interpolate(
            tensor,
            np.array([spec.height, spec.width], np.int64),
            "nearest",
            "sizes",
            axes=np.array([2, 3], np.int64),
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    outside = ops.logical_or(
        ops.less(tensor, np.float32(0)), ops.greater(tensor, np.float32(len(spec.classes) - 1))
    )
    tensor = ops.convert(ops.select(outside, np.float32(VOID_ID), tensor), "u8")
    return ops.reshape(tensor, np.array([1, spec.height, spec.width], np.int64), False)
