"""Small real networks for the tests, and what they compute, in numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.graph import append_tail, prepend_head
from rtseg.engines.labels import CITYSCAPES, ClassTable, distinct_palette
from rtseg.engines.ports import ImageInput, SegmentationOutput
from rtseg.engines.spec import METADATA_KEY, EngineSpec

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

_ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


@dataclass
class TinyNet:
    """Two convolutions to ``classes`` scores at 1/``stride`` of the size.

    ``end`` is what comes out: ``nchw`` or ``nhwc`` scores, or class ids as ``nhw``,
    ``n1hw`` or ``nhw1``; with ``lookup`` they go through a table that says the same.
    ``enlarged`` is how the scores become as large as the picture inside, in ONNX's words. With
    ``root`` the hidden values go through sqrt(1 - x), which is no number where the picture is
    bright.
    """

    height: int = 32
    width: int = 48
    classes: int = 19
    stride: int = 2
    channels: int = 8
    layout: str = "nchw"
    end: str = "nchw"
    dtype: str = "float32"
    id_dtype: str = "int64"
    seed: int = 0
    opset: int = 17
    dynamic: tuple[str, ...] = ()
    quantised: bool = False
    input_name: str = "image"
    output_name: str = "out"
    auxiliary: bool = False
    bias: dict[int, float] = field(default_factory=dict)
    root: bool = False
    lookup: bool = False
    enlarged: str = ""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of what comes out."""
        stride = 1 if self.enlarged else self.stride
        return -(-self.height // stride), -(-self.width // stride)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        spread = (2 / 27) ** 0.5
        self.first = random.normal(0, spread, (self.channels, 3, 3, 3)).astype(np.float32)
        self.second = random.normal(0, 1, (self.classes, self.channels, 1, 1)).astype(np.float32)
        self.offset = random.normal(0, 0.5, self.classes).astype(np.float32)
        for channel, value in self.bias.items():
            self.offset[channel] = value
        if self.root:
            self.first = np.abs(self.first)
        if self.quantised:  # weights that INT8 holds exactly, so that numpy needs no rounding
            self.first = np.clip(np.round(self.first * 64), -127, 127).astype(np.float32) / 64

    # What it computes

    def logits(self, tensor: F32) -> F32:
        """Return scores C×h×w for a normalised 3×H×W picture."""
        padded = np.pad(tensor, ((0, 0), (1, 1), (1, 1))).astype(np.float64)
        hidden = np.zeros((self.channels, self.height, self.width))
        for row in range(3):
            for column in range(3):
                window = padded[:, row : row + self.height, column : column + self.width]
                hidden += np.einsum("oc,chw->ohw", self.first[:, :, row, column], window)
        hidden = np.maximum(hidden[:, :: self.stride, :: self.stride], 0)
        scores = np.einsum("oc,chw->ohw", self.second[:, :, 0, 0], hidden)
        return (scores + self.offset[:, None, None]).astype(np.float32)

    # The file

    def proto(self) -> Any:
        """Return the ``onnx.ModelProto``."""
        nodes: list[Any] = []
        weights: list[Any] = []

        def constant(name: str, value: Any) -> str:
            weights.append(numpy_helper.from_array(np.asarray(value), name))
            return name

        def node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
            nodes.append(
                helper.make_node(op_type, inputs, [output], name=f"n_{output}", **attributes)
            )
            return output

        tensor = self.input_name
        real = np.float16 if self.dtype == "float16" else np.float32
        if self.dtype == "uint8":
            tensor = node("Cast", [tensor], "as_float", to=TensorProto.FLOAT)
        if self.layout == "nhwc":
            tensor = node("Transpose", [tensor], "as_nchw", perm=[0, 3, 1, 2])
        kernel = constant("first", self.first.astype(real))
        if self.quantised:
            step = constant("step", np.float32(1 / 32))
            zero = constant("zero", np.int8(0))
            small = node("QuantizeLinear", [tensor, step, zero], "small")
            tensor = node("DequantizeLinear", [small, step, zero], "large")
            held = constant("held", (self.first * 64).astype(np.int8))
            kernel = node(
                "DequantizeLinear",
                [held, constant("held_step", np.float32(1 / 64)), zero],
                "held_large",
            )
        tensor = node(
            "Conv",
            [tensor, kernel],
            "hidden",
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            strides=[self.stride, self.stride],
        )
        tensor = node("Relu", [tensor], "hidden_relu")
        if self.root:
            tensor = node("Sub", [constant("one", real(1)), tensor], "rest")
            tensor = node("Sqrt", [tensor], "root")
        second = constant("second", self.second.astype(real))
        offset = constant("offset", self.offset.astype(real))
        scores = self.output_name if self.end == "nchw" else "scores"
        small = "small_scores" if self.enlarged else scores
        node("Conv", [tensor, second, offset], small, kernel_shape=[1, 1])
        if self.enlarged:  # as PyTorch writes it: by a factor, in a node of its own
            factors = np.array([1, 1, self.stride, self.stride], np.float32)
            region = "" if self.opset >= 13 else constant("region", np.zeros(0, np.float32))
            node("Constant", [], "factors", value=numpy_helper.from_array(factors))
            node(
                "Resize",
                [small, region, "factors"],
                scores,
                mode="linear",
                coordinate_transformation_mode=self.enlarged,
            )
        element, shape = self._finish(node, constant)
        values = [helper.make_tensor_value_info(self.output_name, element, shape)]
        if self.auxiliary:
            node(
                "AveragePool",
                [scores],
                "auxiliary",
                kernel_shape=[2, 2],
                strides=[2, 2],
            )
            half = [
                1,
                self.classes,
                self.height // self.stride // 2,
                self.width // self.stride // 2,
            ]
            values.insert(0, helper.make_tensor_value_info("auxiliary", TensorProto.FLOAT, half))
        inputs = [
            helper.make_tensor_value_info(
                self.input_name, _ELEMENTS[self.dtype], self._input_shape()
            )
        ]
        graph = helper.make_graph(nodes, "tiny", inputs, values, weights)
        opset = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.checker.check_model(model)
        return model

    def _finish(self, node: Any, constant: Any) -> tuple[int, list[Any]]:
        rows, columns = self.grid
        real = TensorProto.FLOAT16 if self.dtype == "float16" else TensorProto.FLOAT
        if self.end == "nchw":
            shape: list[Any] = [1, self.classes, rows, columns]
        elif self.end == "nhwc":
            node("Transpose", ["scores"], self.output_name, perm=[0, 2, 3, 1])
            shape = [1, rows, columns, self.classes]
        else:
            keep = self.end == "n1hw"
            ids = node("ArgMax", ["scores"], "ids", axis=1, keepdims=int(keep))
            if self.lookup:
                table = constant("table", np.arange(self.classes, dtype=np.int64))
                ids = node("Gather", [table, ids], "looked_up")
            if self.end == "nhw1":
                grid = constant("grid", np.array([1, rows, columns, 1], np.int64))
                ids = node("Reshape", [ids, grid], "ids_last")
            node("Cast", [ids], self.output_name, to=_ELEMENTS[self.id_dtype])
            shape = {
                "nhw": [1, rows, columns],
                "n1hw": [1, 1, rows, columns],
                "nhw1": [1, rows, columns, 1],
            }[self.end]
            real = _ELEMENTS[self.id_dtype]
        if "hw" in self.dynamic:
            shape = [
                axis if axis in (1, self.classes) else f"d{at}" for at, axis in enumerate(shape)
            ]
        if "n" in self.dynamic:
            shape[0] = "batch"
        return real, shape

    def _input_shape(self) -> list[Any]:
        rows: Any = "rows" if "hw" in self.dynamic else self.height
        columns: Any = "columns" if "hw" in self.dynamic else self.width
        batch: Any = "batch" if "n" in self.dynamic else 1
        if self.layout == "nchw":
            return [batch, 3, rows, columns]
        return [batch, rows, columns, 3]

    def save(self, path: Path) -> Path:
        """Write the file and return its path."""
        onnx.save(self.proto(), str(path))
        return path

    def save_ours(self, path: Path, **spec: Any) -> Path:
        """Write it as our own export does: frames in, labels out, its description inside."""
        model = self.proto()
        image = ImageInput(self.input_name, "float32", "nchw", self.height, self.width)
        rows, columns = -(-self.height // self.stride), -(-self.width // self.stride)
        output = SegmentationOutput(
            self.output_name, "float32", "logits", "nchw", self.classes, rows, columns
        )
        described = EngineSpec(
            network="tiny",
            height=self.height,
            width=self.width,
            classes=classes(self.classes),
            precision="int8" if self.quantised else "fp32",
            **spec,
        )
        prepend_head(model, image, mean=described.mean, std=described.std, scale=described.scale)
        append_tail(model, output, height=self.height, width=self.width, logit_mean=None)
        attach(model, described)
        onnx.save(model, str(path))
        return path


def attach(model: Any, spec: EngineSpec) -> None:
    """Write a description into a model."""
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()


def classes(count: int) -> ClassTable:
    """Return a class table of ``count`` classes."""
    if count == 19:
        return CITYSCAPES
    return ClassTable(tuple(f"class_{n}" for n in range(count)), distinct_palette(count))


def random_frames(net: TinyNet, count: int = 1, seed: int = 1) -> U8:
    """Return uint8 N×H×W×3 frames of blocks and noise."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, net.height // 4 + 1, net.width // 4 + 1, 3))
    large = np.kron(small, np.ones((1, 4, 4, 1)))[:, : net.height, : net.width]
    return np.clip(large + random.normal(0, 8, large.shape), 0, 255).astype(np.uint8)


def normalise(
    frame: U8,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
    scale: float = 255.0,
    bgr: bool = False,
) -> F32:
    """Return the 3×H×W tensor that a network sees of an H×W×3 RGB frame."""
    picture = frame[..., ::-1] if bgr else frame
    values = (picture.astype(np.float64) / scale - mean) / std
    return values.transpose(2, 0, 1).astype(np.float32)


def upsample(scores: F32, height: int, width: int, aligned: bool = False) -> F32:
    """Return C×height×width scores: linear, half-pixel centres, edges repeated; or aligned."""

    def along(values: F32, axis: int, size: int) -> F32:
        have = values.shape[axis]
        if aligned:
            at = np.arange(size) * (have - 1) / max(1, size - 1)
        else:
            at = np.clip((np.arange(size) + 0.5) * have / size - 0.5, 0, have - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, have - 1)
        weight = (at - low).reshape([-1 if n == axis else 1 for n in range(3)])
        mixed = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
        return mixed.astype(np.float32)

    return along(along(scores, 1, height), 2, width)


def assert_labels_of(labels: U8, scores: F32, tolerance: float = 1e-3) -> None:
    """Check class ids against scores C×H×W; a tie within ``tolerance`` may go either way."""
    assert labels.shape == scores.shape[1:]
    taken = np.take_along_axis(scores, labels[None].astype(np.int64), 0)[0]
    assert np.all(taken >= scores.max(axis=0) - tolerance)
