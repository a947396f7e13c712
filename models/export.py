"""Keras network to one ONNX file: uint8 frames in, uint8 class ids out.

The graph is written node by node from the layers, so the result is the same from every
Keras backend and needs no TensorFlow: BatchNorm is folded into the convolution before
it, convolutions keep their layers' names, tensors are NCHW from the first to the last.

``frames`` uint8 (N, H, W, 3) RGB -> Cast, Transpose, normalise -> network -> Resize
(linear, half_pixel) -> ArgMax -> Cast -> ``labels`` uint8 (N, H, W). Where the network works
at another size than the frames', a Resize of the same kind stands before it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.fit import Fit
from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.engines.reshape import upscale_factor
from rtseg.engines.spec import METADATA_KEY, EngineSpec
from rtseg.models.errors import ModelError
from rtseg.models.files import write_whole
from rtseg.models.graph import Step, steps_of, unsupported

if TYPE_CHECKING:
    import keras

OPSET = 17
#: ONNX IR of opset 17's time; newer files are refused by older runtimes.
IR_VERSION = 8
FRAMES, LABELS, BATCH = "frames", "labels", "N"

LICENCE_NOTE = (
    "Code Apache-2.0. Weights trained on Cityscapes and CamVid, whose licences allow "
    "non-commercial research and teaching only."
)

STREET = Fit(pad=114, stretch=(0.5, 1.15))
"""How our networks want frames: scaled to fill the input, unless that makes things wider than
by 15 %, or less than half as wide as they are. They learn from 2:1 pictures,
which become narrower, and bear that: measured in ``docs/evaluation.md``."""

F64 = NDArray[np.float64]


@dataclass
class _Graph:
    """An ONNX graph under construction."""

    nodes: list[Any] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)

    def constant(self, name: str, values: Any) -> str:
        self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output


def weights_sha256(model: keras.Model) -> str:
    """Return the hash of all weights, by layer name and position."""
    digest = hashlib.sha256()
    for layer in sorted(model.layers, key=lambda layer: str(layer.name)):
        for number, array in enumerate(layer.get_weights()):
            values = np.ascontiguousarray(array, np.float32)
            digest.update(f"{layer.name}/{number}{values.shape}".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def _same_pads(size: tuple[int, int], kernel: int, stride: int) -> list[int]:
    """TensorFlow's "same" padding as ONNX pads: top, left, bottom, right."""
    totals = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in size]
    before = [total // 2 for total in totals]
    return before + [total - first for total, first in zip(totals, before, strict=True)]


def _kernel_of(step: Step) -> tuple[F64, F64 | None]:
    """Kernel in ONNX order (out, in, h, w) and bias."""
    arrays = [np.asarray(a, np.float64) for a in step.layer.get_weights()]
    axes = (2, 3, 0, 1) if step.kind == "DepthwiseConv2D" else (3, 2, 0, 1)
    bias = arrays[1] if step.layer.use_bias else None
    return arrays[0].transpose(axes), bias


def _norm_of(step: Step) -> tuple[F64, F64]:
    """A BatchNorm in inference as factor and offset a channel."""
    gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in step.layer.get_weights())
    factor = gamma / np.sqrt(variance + step.layer.epsilon)
    return factor, beta - mean * factor


class _Exporter:
    """Writes the steps of one model into a graph."""

    def __init__(self, model: keras.Model) -> None:
        self.steps = steps_of(model)
        self.graph = _Graph()
        self.names: dict[int, str] = {}
        uses = Counter(i for step in self.steps for i in step.inputs)
        #: BatchNorm steps that disappear into the convolution they follow.
        self.folded: dict[int, Step] = {}
        for step in self.steps:
            if step.kind == "BatchNormalization":
                source = self.steps[step.inputs[0]]
                if source.kind in ("Conv2D", "DepthwiseConv2D") and uses[source.output] == 1:
                    self.folded[source.output] = step

    def size_of(self, number: int) -> tuple[int, int]:
        height, width = self.steps[number].shape[1:3]
        assert height is not None
        assert width is not None
        return int(height), int(width)

    def write(self, step: Step) -> str:
        name = step.layer.name
        sources = [self.names[i] for i in step.inputs]
        handler = getattr(self, f"_{step.kind.lower()}", None)
        if handler is None:
            raise unsupported(step, "the exporter")
        result: str = handler(step, name, sources)
        return result

    def _rescaling(self, step: Step, name: str, sources: list[str]) -> str:
        shape = (1, -1, 1, 1)
        scale = np.asarray(step.layer.scale, np.float32).reshape(shape)
        offset = np.asarray(step.layer.offset, np.float32).reshape(shape)
        graph = self.graph
        scaled = graph.add(
            "Mul", [sources[0], graph.constant(f"{name}/scale", scale)], f"{name}/scaled"
        )
        return graph.add("Add", [scaled, graph.constant(f"{name}/offset", offset)], name)

    def _conv2d(self, step: Step, name: str, sources: list[str]) -> str:
        if step.layer.groups != 1:
            raise unsupported(step, "the exporter")
        return self._convolution(step, name, sources, groups=1)

    def _convolution(self, step: Step, name: str, sources: list[str], *, groups: int | None) -> str:
        """Write a convolution; ``groups`` None: one for each channel."""
        layer = step.layer
        if layer.activation.__name__ != "linear":
            raise unsupported(step, "the exporter")
        kernel, bias = _kernel_of(step)
        norm = self.folded.get(step.output)
        if norm is not None:
            factor, offset = _norm_of(norm)
            kernel = kernel * factor.reshape(-1, 1, 1, 1)
            bias = offset + (0.0 if bias is None else bias * factor)
        inputs = [
            sources[0],
            self.graph.constant(f"{name}/kernel", kernel.astype(np.float32)),
        ]
        if bias is not None:
            inputs.append(self.graph.constant(f"{name}/bias", bias.astype(np.float32)))
        size, stride = int(layer.kernel_size[0]), int(layer.strides[0])
        dilation = int(layer.dilation_rate[0])
        pads = [0, 0, 0, 0]
        if layer.padding == "same":
            reach = (size - 1) * dilation + 1
            pads = _same_pads(self.size_of(step.inputs[0]), reach, stride)
        return self.graph.add(
            "Conv",
            inputs,
            name,
            kernel_shape=[size, size],
            strides=[stride, stride],
            dilations=[dilation, dilation],
            pads=pads,
            group=groups or kernel.shape[0],
        )

    def _depthwiseconv2d(self, step: Step, name: str, sources: list[str]) -> str:
        # ONNX has no depth multiplier; none of our networks uses one.
        if step.layer.depth_multiplier != 1:
            raise unsupported(step, "the exporter")
        return self._convolution(step, name, sources, groups=None)

    def _batchnormalization(self, step: Step, name: str, sources: list[str]) -> str:
        if step.inputs[0] in self.folded:
            return sources[0]
        factor, offset = (a.astype(np.float32).reshape(1, -1, 1, 1) for a in _norm_of(step))
        graph = self.graph
        scaled = graph.add(
            "Mul", [sources[0], graph.constant(f"{name}/scale", factor)], f"{name}/scaled"
        )
        return graph.add("Add", [scaled, graph.constant(f"{name}/offset", offset)], name)

    def _relu(self, step: Step, name: str, sources: list[str]) -> str:
        limit = step.layer.max_value
        if limit is None:
            return self.graph.add("Relu", sources, name)
        # Scalars are shared, so that quantisers see one constant.
        low = self.graph.constant("clip/min", np.float32(0.0))
        high = self.graph.constant(f"clip/max{float(limit):g}", np.float32(limit))
        return self.graph.add("Clip", [sources[0], low, high], name)

    def _activation(self, step: Step, name: str, sources: list[str]) -> str:
        kind = step.layer.activation.__name__
        if kind == "silu":
            gate = self.graph.add("Sigmoid", sources, f"{name}/gate")
            return self.graph.add("Mul", [sources[0], gate], name)
        operators = {"relu": "Relu", "sigmoid": "Sigmoid"}
        if kind not in operators:
            raise unsupported(step, "the exporter")
        return self.graph.add(operators[kind], sources, name)

    def _add(self, step: Step, name: str, sources: list[str]) -> str:
        return self.graph.add("Add" if len(sources) == 2 else "Sum", sources, name)

    def _multiply(self, step: Step, name: str, sources: list[str]) -> str:
        if len(sources) != 2:
            raise unsupported(step, "the exporter")
        return self.graph.add("Mul", sources, name)

    def _concatenate(self, step: Step, name: str, sources: list[str]) -> str:
        return self.graph.add("Concat", sources, name, axis=1)

    def _averagepooling2d(self, step: Step, name: str, sources: list[str]) -> str:
        if step.layer.padding != "valid":
            raise unsupported(step, "the exporter")
        window = [int(side) for side in step.layer.pool_size]
        if tuple(window) == self.size_of(step.inputs[0]):
            return self.graph.add("GlobalAveragePool", sources, name)
        strides = [int(side) for side in step.layer.strides]
        return self.graph.add("AveragePool", sources, name, kernel_shape=window, strides=strides)

    def _globalaveragepooling2d(self, step: Step, name: str, sources: list[str]) -> str:
        if not step.layer.keepdims:
            raise unsupported(step, "the exporter")
        return self.graph.add("GlobalAveragePool", sources, name)

    def _maxpooling2d(self, step: Step, name: str, sources: list[str]) -> str:
        if step.layer.padding != "valid":
            raise unsupported(step, "the exporter")
        window, strides = ([int(n) for n in v] for v in (step.layer.pool_size, step.layer.strides))
        return self.graph.add("MaxPool", sources, name, kernel_shape=window, strides=strides)

    def _maxunpool(self, step: Step, name: str, sources: list[str]) -> str:
        # Not ONNX's MaxUnpool: neither OpenVINO nor TensorRT runs that.
        graph = self.graph
        values, before, after = sources
        maxima = self._double(after, f"{name}/maxima")
        where = graph.add("Equal", [before, maxima], f"{name}/where")
        mask = graph.add("Cast", [where], f"{name}/mask", to=TensorProto.FLOAT)
        return graph.add("Mul", [self._double(values, f"{name}/values"), mask], name)

    def _double(self, source: str, name: str) -> str:
        """Repeat every row and column."""
        scales = self.graph.constant("double/scales", np.array([1, 1, 2, 2], np.float32))
        return self.graph.add(
            "Resize",
            [source, "", scales],
            name,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _dropout(self, step: Step, name: str, sources: list[str]) -> str:
        return sources[0]

    _spatialdropout2d = _montecarlodropout = _dropout

    def _resize(self, step: Step, name: str, sources: list[str]) -> str:
        source, target = self.size_of(step.inputs[0]), (step.layer.height, step.layer.width)
        return sources[0] if source == target else self.resize(name, sources[0], source, target)

    def resize(self, name: str, source: str, size: tuple[int, int], target: tuple[int, int]) -> str:
        scales = [1.0, 1.0, *(upscale_factor(a, b) for a, b in zip(size, target, strict=True))]
        scales_name = self.graph.constant(f"{name}/scales", np.array(scales, np.float32))
        return self.graph.add(
            "Resize",
            [source, "", scales_name],
            name,
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )


def to_onnx(
    model: keras.Model,
    *,
    classes: ClassTable = CITYSCAPES,
    licence: str = LICENCE_NOTE,
    extra: dict[str, str] | None = None,
    batch: int | None = None,
    frames: tuple[int, int] | None = None,
) -> onnx.ModelProto:
    """Write a network as ONNX with its description inside.

    Args:
        model: functional Keras model from RGB 0..255 float32 (N, H, W, 3), first layer
            ``normalise``, to logits (N, h, w, C).
        classes: what the C channels are.
        licence: note for people who use the weights.
        extra: more entries of the description.
        batch: fixed batch size; None leaves it free.
        frames: (height, width) of the frames and class ids, where it is not the model's: the
            graph brings them to the model's size. The description has that as ``inner``.

    Raises:
        ModelError: a layer the exporter does not know, channels that do not fit the
            class table, or weights that are not finite.
    """
    exporter = _Exporter(model)
    graph, steps = exporter.graph, exporter.steps
    inner = exporter.size_of(0)
    height, width = frames or inner
    channels = int(steps[-1].shape[-1] or 0)
    if channels != len(classes):
        raise ModelError(
            f"{model.name} has {channels} output channels; the class table has {len(classes)}",
            reason="CLASS_MISMATCH",
        )
    bad = [w.path for w in model.weights if not np.isfinite(np.asarray(w)).all()]
    if bad:
        raise ModelError(f"weights that are not finite: {bad[0]}", reason="BAD_WEIGHTS")

    # Cast first: TensorRT has no Transpose on uint8.
    cast = graph.add("Cast", [FRAMES], "frames/float", to=TensorProto.FLOAT)
    exporter.names[0] = graph.add("Transpose", [cast], "frames/nchw", perm=[0, 3, 1, 2])
    if inner != (height, width):
        exporter.names[0] = exporter.resize(
            "frames/inner", exporter.names[0], (height, width), inner
        )
    for step in steps[1:]:
        exporter.names[step.output] = exporter.write(step)
    last = steps[-1]
    full = exporter.resize(
        "upsample", exporter.names[last.output], exporter.size_of(last.output), (height, width)
    )
    best = graph.add("ArgMax", [full], "best", axis=1, keepdims=0)
    graph.add("Cast", [best], LABELS, to=TensorProto.UINT8)

    free: int | str = BATCH if batch is None else batch
    onnx_graph = helper.make_graph(
        graph.nodes,
        model.name,
        [helper.make_tensor_value_info(FRAMES, TensorProto.UINT8, [free, height, width, 3])],
        [helper.make_tensor_value_info(LABELS, TensorProto.UINT8, [free, height, width])],
        list(graph.tensors.values()),
    )
    result = helper.make_model(
        onnx_graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="rt-seg",
        ir_version=IR_VERSION,
    )
    mean, std = _normalisation(steps)
    about_inner = {} if inner == (height, width) else {"inner": f"{inner[1]}x{inner[0]}"}
    spec = EngineSpec(
        network=model.name,
        height=height,
        width=width,
        classes=classes,
        precision="fp32",
        mean=mean,
        std=std,
        scale=1.0,
        pad=STREET.pad,
        stretch=STREET.stretch,
        source_sha256=weights_sha256(model),
        licence=licence,
        extra={**about_inner, **(extra or {})},
    )
    helper.set_model_props(result, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(result)
    return result


def _normalisation(
    steps: list[Step],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation a channel (0..255 units) of the first Rescaling layer."""
    for step in steps:
        if step.kind == "Rescaling":
            scale = np.broadcast_to(np.asarray(step.layer.scale, np.float64), (3,))
            offset = np.broadcast_to(np.asarray(step.layer.offset, np.float64), (3,))
            std = 1.0 / scale
            mean = -offset * std
            return (
                (round(float(mean[0]), 6), round(float(mean[1]), 6), round(float(mean[2]), 6)),
                (round(float(std[0]), 6), round(float(std[1]), 6), round(float(std[2]), 6)),
            )
    raise ModelError("the network has no normalisation layer", reason="UNSUPPORTED_LAYER")


def export_onnx(model: keras.Model, path: str | Path, **options: Any) -> Path:
    """Write `to_onnx` of ``model`` to ``path``, all or nothing.

    Raises:
        ModelError: as `to_onnx`, or the file cannot be written.
    """
    path = Path(path)
    data = to_onnx(model, **options).SerializeToString()
    write_whole(path, data)
    return path
