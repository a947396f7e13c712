"""Small networks of the kind that is quantised, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.deployable import set_description
from rtseg.engines.labels import ClassTable, distinct_palette
from rtseg.engines.sidecar import default_classes
from rtseg.engines.spec import METADATA_KEY, EngineSpec

CLASSES = 5
SIZE = 32
SPEC = EngineSpec(
    "tiny",
    SIZE,
    SIZE,
    classes=ClassTable(tuple(f"class {n}" for n in range(CLASSES)), distinct_palette(CLASSES)),
    mean=(127.0,) * 3,
    std=(128.0,) * 3,
    scale=1.0,
    extra={"note": "kept"},
)


class Builder:
    """Adds nodes to a graph by name."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.random = np.random.default_rng(seed)

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def conv(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        norm: bool = True,
        relu6: bool = True,
    ) -> str:
        """Convolution, BatchNorm, ReLU6 as Clip."""
        inputs, outputs = channels
        shape = (outputs, 1 if depthwise else inputs, kernel, kernel)
        weight = self.random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        arguments = [x, self.constant(f"{name}_w", weight)]
        if not norm:
            bias = self.random.normal(0, 0.2, outputs).astype(np.float32)
            arguments.append(self.constant(f"{name}_b", bias))
        y = self.node(
            "Conv",
            arguments,
            name,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=inputs if depthwise else 1,
        )
        if norm:
            draw = self.random.uniform
            parts = [draw(0.6, 1.4, outputs), draw(-0.5, 0.5, outputs)]
            parts += [draw(-0.3, 0.3, outputs), draw(0.5, 1.5, outputs)]
            labels = ("gamma", "beta", "mean", "variance")
            names = [
                self.constant(f"{name}_{label}", part.astype(np.float32))
                for label, part in zip(labels, parts, strict=True)
            ]
            y = self.node("BatchNormalization", [y, *names], f"{name}_bn", epsilon=1e-3)
        if relu6:
            low = self.constant(f"{name}_low", np.float32(0))
            high = self.constant(f"{name}_high", np.float32(6))
            y = self.node("Clip", [y, low, high], f"{name}_act")
        return y

    def resize(self, x: str, name: str, shape: tuple[int, ...]) -> str:
        sizes = self.constant(f"{name}_sizes", np.array(shape, np.int64))
        return self.node(
            "Resize",
            [x, "", "", sizes],
            name,
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )


def tiny_network(seed: int = 0, *, opset: int = 17, classes: int = CLASSES) -> Any:
    """A separable network with two linear bottlenecks, a residual, a pooled branch and a skip.

    Of any other number of classes, they are those of Cityscapes or without a name.
    """
    b = Builder(seed)
    x = b.node("Cast", ["frames"], "to_float", to=TensorProto.FLOAT)
    x = b.node("Transpose", [x], "to_nchw", perm=[0, 3, 1, 2])
    x = b.node("Sub", [x, b.constant("mean", np.full((1, 3, 1, 1), 127, np.float32))], "centre")
    x = b.node("Mul", [x, b.constant("scale", np.full((1, 3, 1, 1), 1 / 128, np.float32))], "norm")
    stem = b.conv(x, "stem", (3, 8), kernel=3, stride=2)
    x = b.conv(stem, "dw", (8, 8), kernel=3, stride=2, depthwise=True)
    first = b.conv(x, "project", (8, 6), relu6=False)
    x = b.conv(first, "expand2", (6, 12))
    x = b.conv(x, "dw2", (12, 12), kernel=3, depthwise=True)
    x = b.conv(x, "project2", (12, 6), relu6=False)
    x = b.node("Add", [first, x], "residual")
    pooled = b.node("GlobalAveragePool", [x], "pool")
    pooled = b.conv(pooled, "pooled", (6, 6), norm=False)
    pooled = b.resize(pooled, "spread", (1, 6, SIZE // 4, SIZE // 4))
    x = b.node("Concat", [x, pooled], "pyramid", axis=1)
    x = b.conv(x, "neck", (12, 8))
    x = b.resize(x, "up", (1, 8, SIZE // 2, SIZE // 2))
    skip = b.conv(stem, "skip", (8, 8), relu6=False)
    x = b.node("Add", [x, skip], "merge")
    x = b.conv(x, "refine", (8, 8), kernel=3, depthwise=True)
    x = b.conv(x, "logits", (8, classes), norm=False, relu6=False)
    x = b.resize(x, "enlarge", (1, classes, SIZE, SIZE))
    x = b.node("ArgMax", [x], "argmax", axis=1, keepdims=0)
    b.nodes.append(helper.make_node("Cast", [x], ["labels"], "to_labels", to=TensorProto.UINT8))
    graph = helper.make_graph(
        b.nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, SIZE, SIZE])],
        b.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    spec = SPEC if classes == CLASSES else replace(SPEC, classes=default_classes(classes))
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    onnx.checker.check_model(model)
    return model


def save_network(path: Path, seed: int = 0, *, classes: int = CLASSES) -> Path:
    onnx.save(tiny_network(seed, classes=classes), path)
    return path


def named(*names: str) -> ClassTable:
    return ClassTable(names, distinct_palette(len(names)))


def engine_file(path: Path, order: Sequence[int], names: Sequence[str]) -> Path:
    """The tiny network with ``names`` as its classes, put into another order."""
    model = tiny_network(classes=len(names))
    next(n for n in model.graph.node if n.name == "enlarge").name = "upsample"
    for weight in model.graph.initializer:
        if weight.name in ("logits_w", "logits_b"):
            values = numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(values[list(order)], weight.name))
    table = named(*(names[number] for number in order))
    set_description(model, replace(SPEC, classes=table))
    onnx.save(model, path)
    return path


def save_images(folder: Path, count: int = 6, *, size: int = 48) -> Path:
    """Images with structure: ramps, blocks and some noise, one seed each."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[0:size, 0:size] / size
    for number in range(count):
        random = np.random.default_rng(number)
        image = np.stack([rows, columns, (rows + columns) / 2], -1) * 200
        top, left = random.integers(0, size // 2, 2)
        image[top : top + size // 3, left : left + size // 3] = random.integers(0, 256, 3)
        image = np.clip(image + random.normal(0, 10, image.shape), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"street_{number:03d}.png"), image)
    return folder
