"""Turns any segmentation ONNX into one that takes frames and gives class ids.

Ours carry an :class:`EngineSpec` in their metadata. A foreign file does not: its input and
output are found by shape and type, its classes and normalisation come from the note beside
it (``<file>.json``, see :mod:`rtseg.engines.sidecar`), and what nobody says is assumed,
with a warning.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rtseg.engines import onnx_edit, onnxfile, ports
from rtseg.engines.described import described_by_onnx, fill_note
from rtseg.engines.errors import EngineError
from rtseg.engines.fingerprint import network_sha256
from rtseg.engines.graph import (
    FRAMES,
    LABELS,
    LOGIT_MEAN,
    MIN_OPSET,
    SCORES,
    append_tail,
    guard_logits,
    prepend_head,
)
from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.engines.one_channel import choose_threshold, onnx_operations
from rtseg.engines.openvino_runtime import load_openvino
from rtseg.engines.ports import ImageInput, Port, SegmentationOutput
from rtseg.engines.reshape import resize_network
from rtseg.engines.scores import ids_in_floats, scores_behind
from rtseg.engines.sidecar import Sidecar, default_classes, read_sidecar, sidecar_path
from rtseg.engines.spec import METADATA_KEY, EngineSpec, Precision

_log = logging.getLogger(__name__)

_CONVERTED_OPSET = 13
_LARGEST_BYTES = 2**31 - 1  # what a protobuf message may have


@dataclass(frozen=True)
class AdaptedModel:
    """A network that takes uint8 1×H×W×3 RGB ``frames`` and gives uint8 1×H×W ``labels``.

    Attributes:
        model: the ``onnx.ModelProto``.
        spec: its description; input and output kind are those of the adapted network.
        guarded: whether it has the output ``logit_mean``, not finite if a logit is not.
        assumed: what was taken for granted, one short phrase each; for people.
    """

    model: Any
    spec: EngineSpec
    guarded: bool
    assumed: tuple[str, ...] = ()

    def serialise(self) -> bytes:
        """Return the network as the bytes of an ONNX file.

        Raises:
            EngineError: it has more than 2 GB.
        """
        if self.model.ByteSize() > _LARGEST_BYTES:
            raise EngineError(
                "the network is larger than 2 GB: too large for live video",
                reason="ENGINE_UNSUPPORTED",
            )
        data: bytes = self.model.SerializeToString()
        return data


def adapt_onnx(path: Path, size: tuple[int, int] | None = None) -> AdaptedModel:
    """Read an ONNX file, ours or foreign, and make it take frames and give class ids.

    Args:
        path: the file.
        size: width and height in pixels, for a network that takes any, as our own ones do
            (`rtseg.engines.reshape`); None takes the file's own, else the note's, else 512×512.

    Raises:
        EngineError: the file is missing, damaged or no segmentation network, or its size
            is fixed and another one was asked for.
    """
    model = onnxfile.load_onnx(path)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return _adapt_ours(model, EngineSpec.from_json(entry.value), path, size)
    return _adapt_foreign(model, read_sidecar(path), path, size)


def _adapt_ours(
    model: Any, spec: EngineSpec, path: Path, size: tuple[int, int] | None
) -> AdaptedModel:
    if spec.input_kind != "uint8_nhwc_rgb" or spec.output_kind != "labels":
        adapted = _adapt_foreign(model, note_of(spec), path, size, known=True)
        return replace(
            adapted,
            spec=replace(
                spec,
                height=adapted.spec.height,
                width=adapted.spec.width,
                input_kind="uint8_nhwc_rgb",
                output_kind="labels",
            ),
        )
    if size is not None:
        fit_size(model, size)
    inputs = _graph_inputs(model)
    outputs = onnxfile.ports_of(model.graph.output)
    takes = [port for port in inputs if _fits(port, (None, None, None, 3))]
    gives = [port for port in outputs if _fits(port, (None, None, None))]
    if len(inputs) != 1 or not takes or not gives:
        raise EngineError(
            f"{path} does not fit its own description (frames in, labels out). "
            f"Inputs: {ports.list_ports(inputs)}; outputs: {ports.list_ports(outputs)}",
            reason="ENGINE_DAMAGED",
        )
    shape = takes[0].shape or ()
    width, height = size or (spec.width, spec.height)
    if (shape[1] or height) != height or (shape[2] or width) != width:
        others = "; other sizes are multiples of 32" if width % 32 or height % 32 else ""
        raise EngineError(
            f"{path.name} is made for {shape[2]}x{shape[1]} (width x height){others}. "
            f"Received: {width}x{height}",
            reason="ENGINE_MISMATCH",
        )
    if (width % 32 or height % 32) and (shape[1] is None or shape[2] is None):
        raise EngineError(
            f"{path.name} takes sizes that are multiples of 32. Received: {width}x{height}",
            reason="ENGINE_MISMATCH",
        )
    labels = gives[0].name
    kept = [value for value in model.graph.output if value.name == labels]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx_edit.set_shape(
        onnx_edit.find_value(model.graph.input, takes[0].name), (1, height, width, 3)
    )
    onnx_edit.set_shape(model.graph.output[0], (1, height, width))
    del model.graph.value_info[:]
    guarded = guard_logits(model, labels)
    onnx_edit.rename(model, {takes[0].name: FRAMES, labels: LABELS})
    if (spec.height, spec.width) != (height, width):
        # At another size it works at another one inside, too.
        extra = {name: value for name, value in spec.extra.items() if name != "inner"}
        spec = replace(spec, height=height, width=width, extra=extra)
    return AdaptedModel(model, spec, guarded)


def fit_size(model: Any, size: tuple[int, int]) -> None:
    """Bring one of our networks to ``size`` (width and height), in place, where that can be."""
    frames = onnxfile.ports_of(model.graph.input)
    if len(frames) == 1 and frames[0].shape and frames[0].shape[1:3] != size[::-1]:
        resize_network(model, size[::-1])


def _adapt_foreign(
    model: Any, note: Sidecar, path: Path, size: tuple[int, int] | None, *, known: bool = False
) -> AdaptedModel:
    model = _modern_opset(model, path)
    image = ports.choose_input(_graph_inputs(model), size or note.size, note.input)
    refuse_normalisation_of_uint8(image, note, path, known=known)
    model = _fix_size(model, image)
    output = ports.choose_output(_outputs(model, path), image, note.output)
    output = ids_in_floats(model, output)
    scores = scores_behind(model, output)
    if scores is not None and (note.classes is None or len(note.classes) == scores.channels):
        output = scores
    if not known:
        note = fill_note(note, described_by_onnx(model), image, output)
    use_channels, classes = choose_classes(note, output, path)
    threshold = choose_threshold(note, output, onnx_operations(model, output.name), path)
    spec = describe(note, image, classes, _precision(model), path)
    if {FRAMES, LABELS, LOGIT_MEAN, SCORES} & onnx_edit.tensor_names(model):
        model, image, output = onnx_edit.with_prefix(model, image, output)
    prepend_head(model, image, mean=spec.mean, std=spec.std, scale=spec.scale, bgr=spec.bgr)
    append_tail(
        model,
        output,
        height=image.height,
        width=image.width,
        use_channels=use_channels,
        threshold=threshold,
        id_count=len(classes),
    )
    _check(model, path)
    assumed = () if known else warn_of_assumptions(note, image, output, classes, path, threshold)
    return AdaptedModel(model, spec, guarded=output.kind == "logits", assumed=assumed)


def note_of(spec: EngineSpec) -> Sidecar:
    """Return what a description says, as a note, for a network without head or tail."""
    return Sidecar(
        network=spec.network,
        height=spec.height,
        width=spec.width,
        mean=spec.mean,
        std=spec.std,
        scale=spec.scale,
        bgr=spec.bgr,
        pad=spec.pad,
        stretch=spec.stretch,
        classes=spec.classes,
        use_channels=len(spec.classes),
        licence=spec.licence,
    )


def describe(
    note: Sidecar, image: ImageInput, classes: ClassTable, precision: Precision, path: Path
) -> EngineSpec:
    """Return the description of a foreign network; what the note leaves out is assumed."""
    assumed = EngineSpec(
        network=note.network or path.stem,
        height=image.height,
        width=image.width,
        classes=classes,
        precision=precision,
        bgr=bool(note.bgr),
        pad=None if note.pad is False else note.pad,
        stretch=note.stretch or (1.0, 1.0),
        source_sha256=network_sha256(path),
        licence=note.licence or "",
    )
    if image.dtype == "uint8" and not note.says_normalisation:
        return replace(assumed, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1.0)
    return replace(
        assumed,
        mean=note.mean or assumed.mean,
        std=note.std or assumed.std,
        scale=note.scale or assumed.scale,
    )


def refuse_normalisation_of_uint8(
    image: ImageInput, note: Sidecar, path: Path, *, known: bool
) -> None:
    """Raise :class:`EngineError` where a note normalises what the network takes as it is."""
    if image.dtype == "uint8" and note.says_normalisation and not known:
        raise EngineError(
            f"{sidecar_path(path)}: mean, std and scale do not apply, the network takes uint8",
            reason="BAD_INPUT",
        )


def warn_of_assumptions(
    note: Sidecar,
    image: ImageInput,
    output: SegmentationOutput,
    classes: ClassTable,
    path: Path,
    threshold: float,
) -> tuple[str, ...]:
    """Log, in one warning the first time, what is taken for granted of a foreign file.

    Returns:
        The same, one short phrase each.
    """
    assumed = []
    if image.dtype != "uint8" and not note.says_normalisation:
        assumed.append("input scaled to 0..1, less ImageNet's mean, over its deviation")
    if note.bgr is None:
        assumed.append("red first")
    if note.classes is None:
        named = "the 19 of Cityscapes" if classes is CITYSCAPES else f"{len(classes)} without names"
        if output.kind == "labels":
            named += ", ids beyond them void"
        assumed.append(f"classes: {named}")
    if output.channels == 1 and note.threshold is None:
        assumed.append(f"the second class where the score is above {threshold:g}")
    if assumed:
        _warn_once(path, tuple(assumed))
    return tuple(assumed)


@lru_cache(maxsize=64)
def _warn_once(path: Path, assumed: tuple[str, ...]) -> None:
    _log.warning(
        "%s does not say everything; assumed: %s. If that is wrong, say it in %s, as in "
        '{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "scale": 255, '
        '"bgr": false, "classes": ["road", "sky"]}',
        path.name,
        "; ".join(assumed),
        sidecar_path(path).name,
    )


def choose_classes(
    note: Sidecar, output: SegmentationOutput, path: Path
) -> tuple[int | None, ClassTable]:
    """Return how many channels to use (None: all) and what they mean.

    Raises:
        EngineError: the note's classes do not fit the network's channels.
    """
    if output.kind == "labels":
        yes_or_no = output.dtype == "bool"
        return None, note.classes or (default_classes(2) if yes_or_no else CITYSCAPES)
    if output.channels == 1:
        classes = note.classes or default_classes(2)
        if len(classes) != 2:
            raise EngineError(
                f"{sidecar_path(path)}: {output.name} has one channel, which tells two classes "
                f"apart. Received: {len(classes)} classes",
                reason="BAD_INPUT",
            )
        return None, classes
    count = note.use_channels or output.channels
    if count > output.channels:
        raise EngineError(
            f"{sidecar_path(path)}: use_channels is at most {output.channels}, the channels of "
            f"{output.name}. Received: {count}",
            reason="BAD_INPUT",
        )
    classes = note.classes or default_classes(count)
    if len(classes) != count:
        raise EngineError(
            f"{sidecar_path(path)}: {len(classes)} classes for {count} channels of {output.name}; "
            f"if the first {len(classes)} channels are meant, add use_channels",
            reason="BAD_INPUT",
        )
    return (None if count == output.channels else count), classes


def _precision(model: Any) -> Precision:
    if onnxfile.is_quantised(model):
        return "int8"
    return "fp16" if onnxfile.is_half(model) else "fp32"


def _modern_opset(model: Any, path: Path) -> Any:
    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if version >= MIN_OPSET:
        return model
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, _CONVERTED_OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        raise EngineError(
            f"{path} has ONNX opset {version}, which cannot be converted to {_CONVERTED_OPSET}: "
            f"{onnxfile.one_line(error)}",
            reason="ENGINE_UNSUPPORTED",
        ) from error


def _graph_inputs(model: Any) -> list[Port]:
    """Return the real inputs: old files list their weights among them."""
    weights = {weight.name for weight in model.graph.initializer}
    return onnxfile.ports_of(value for value in model.graph.input if value.name not in weights)


def _fix_size(model: Any, image: ImageInput) -> Any:
    """Settle one frame of the chosen size as input, and infer every other shape anew."""
    import onnx

    onnx_edit.set_shape(onnx_edit.find_value(model.graph.input, image.name), image.shape)
    declared = {port.name: port for port in onnxfile.ports_of(model.graph.output)}
    for value in model.graph.output:
        shape = declared[value.name].shape
        # Axes of unknown length and the batch may become known: let inference tell.
        if shape is not None and (None in shape or (shape and shape[0] != 1)):
            value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # the file contradicts itself; the runtime has the last word
        _log.debug("shape inference failed: %s", error)
        return model


def _outputs(model: Any, path: Path) -> list[Port]:
    """Return the outputs, asking OpenVINO where ONNX cannot tell their shape."""
    found = onnxfile.ports_of(model.graph.output)
    if all(port.shape is not None and None not in port.shape for port in found):
        return found
    try:
        openvino = load_openvino()
    except ImportError:
        return found
    from rtseg.engines.openvino_ir import ports_of as openvino_ports

    try:
        network = openvino.Core().read_model(model.SerializeToString())
    except RuntimeError as error:
        raise EngineError(
            f"{path}: {onnxfile.explain_rejection(model, error)}", reason="ENGINE_UNSUPPORTED"
        ) from error
    return [
        replace(better, name=port.name)
        for port, better in zip(found, openvino_ports(network.outputs), strict=True)
    ]


def _fits(port: Port, wanted: tuple[int | None, ...]) -> bool:
    """Tell whether a port is uint8 and has these axes, None standing for any length."""
    shape = port.shape
    return (
        port.dtype == "uint8"
        and shape is not None
        and len(shape) == len(wanted)
        and all(want is None or have == want for want, have in zip(wanted, shape, strict=True))
    )


def _check(model: Any, path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise EngineError(
            f"{path} cannot be made to give class ids: {onnxfile.one_line(error)}",
            reason="ENGINE_UNSUPPORTED",
        ) from error
