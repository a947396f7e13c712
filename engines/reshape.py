"""Our own networks at another input size than that of their file.

They are convolutions throughout, so the weights fit any size, and the scales of an INT8 file hold
for the same values. What a file has fixed is shapes: of frames and class ids, the windows of
the pyramid's pooling, and the factors by which it is enlarged again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rtseg.engines import onnxfile

STRIDE = 32
"""Sides are multiples of this: down to the smallest map, rows and columns halve without a rest."""

PYRAMID = "ppm_"
"""How the names of the nodes of a pyramid pooling begin."""

Size = tuple[int, int]

_QUANTISATION = ("QuantizeLinear", "DequantizeLinear")
_SAME_SIZE = frozenset(
    ("Add", "Cast", "Clip", "Concat", "Mul", "Relu", "Sigmoid", "Sum", "Transpose", *_QUANTISATION)
)


def upscale_factor(source: int, target: int) -> float:
    """Return the float32 scale whose floor(source * scale) is exactly ``target``."""
    scale = np.float32(target / source)
    while int(np.floor(float(scale) * source)) < target:
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)


def resize_network(model: Any, size: Size) -> bool:
    """Make a network of ours take frames and give class ids of another size, in place.

    Args:
        model: the ``onnx.ModelProto`` of our export, or what quantisation or FP16 made of it;
            only changed where the result is True.
        size: (height, width) in pixels.

    Returns:
        Whether it could be done: not for sides that are no multiples of `STRIDE`, nor where the
        graph has a step that our networks have not.
    """
    from onnx import shape_inference

    frames, labels = model.graph.input[0], model.graph.output[0]
    shape = onnxfile.ports_of([frames])[0].shape or ()
    if len(shape) != 4 or shape[1] is None or shape[2] is None:
        return False
    if size[0] % STRIDE or size[1] % STRIDE or min(size) < STRIDE:
        return False
    walk = _Walk(model, shape_inference.infer_shapes(model).graph, (shape[1], shape[2]), size)
    if not all(walk.step(node) for node in model.graph.node):
        return False
    for node, window, strides in walk.pools:
        for attribute in node.attribute:
            if attribute.name in ("kernel_shape", "strides"):
                attribute.ints[:] = window if attribute.name == "kernel_shape" else strides
    _set_scales(model, walk.scales, f"_{size[1]}x{size[0]}")
    for value in (frames, labels):
        for axis, length in enumerate(size, start=1):
            value.type.tensor_type.shape.dim[axis].dim_value = length
    del model.graph.value_info[:]
    return True


def _set_scales(model: Any, scales: list[tuple[Any, tuple[float, float]]], suffix: str) -> None:
    """Give enlarging nodes new factors, each in a constant of its own where it changes."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node, factors in scales:
        values, name = np.array([1, 1, *factors], np.float32), node.input[2]
        if np.array_equal(numpy_helper.to_array(constants[name]), values):
            continue
        # Two steps that were alike may not be so any more.
        node.input[2] = f"{node.output[0]}/scales{suffix}"
        model.graph.initializer.append(numpy_helper.from_array(values, node.input[2]))
        if not any(name in other.input for other in model.graph.node):
            model.graph.initializer.remove(constants[name])


class _Walk:
    """Goes through a graph in its order and works out every map's new size."""

    def __init__(self, model: Any, inferred: Any, before: Size, after: Size) -> None:
        self._before, self._after = before, after
        ports = onnxfile.ports_of((*inferred.value_info, *inferred.output))
        #: (rows, columns) of N×C×H×W tensors, as they were.
        self._old = {p.name: p.shape[2:] for p in ports if p.shape and len(p.shape) == 4}
        self._constants = {tensor.name for tensor in model.graph.initializer}
        self._new: dict[str, Size] = {model.graph.input[0].name: after}
        #: Poolings with their new window and strides; enlargements with their new factors.
        self.pools: list[tuple[Any, Size, Size]] = []
        self.scales: list[tuple[Any, tuple[float, float]]] = []

    def step(self, node: Any) -> bool:
        """Take one node; return False where its new shape cannot be told."""
        sizes = [self._new[name] for name in node.input if name in self._new]
        if not sizes:
            # Of weights alone, as where they are dequantised.
            return node.op_type in _SAME_SIZE
        size: Size | None = sizes[0]
        if node.op_type == "GlobalAveragePool":
            size = (1, 1)
        elif node.op_type == "Conv":
            size = self._convolved(node, sizes[0])
        elif node.op_type == "AveragePool":
            size = self._pooled(node, sizes[0])
        elif node.op_type == "Resize":
            size = self._enlarged(node, sizes[0])
        elif node.op_type in _SAME_SIZE:
            # Where a map meets one value a channel, the map's size holds.
            size = max(sizes)
        elif node.op_type != "ArgMax":
            return False
        if size is None:
            return False
        self._new[node.output[0]] = size
        return True

    def _convolved(self, node: Any, size: Size) -> Size | None:
        options = _attributes(node)
        strides, pads = options.get("strides", [1, 1]), options.get("pads", [0] * 4)
        kernel, dilations = options.get("kernel_shape"), options.get("dilations", [1, 1])
        if kernel is None or "auto_pad" in options:
            return None
        if any(side % stride for side, stride in zip(size, strides, strict=True)):
            return None  # the padding that was right for even maps is wrong here
        reach = [(side - 1) * step + 1 for side, step in zip(kernel, dilations, strict=True)]
        rows, columns = (
            (size[axis] + pads[axis] + pads[axis + 2] - reach[axis]) // strides[axis] + 1
            for axis in (0, 1)
        )
        return rows, columns

    def _pooled(self, node: Any, size: Size) -> Size | None:
        """Keep a pyramid's number of bins, divided as `rtseg.models.layers.pool_to_bins` does."""
        if not node.name.startswith(PYRAMID):
            return None  # another pooling may mean a part of the map, not a number of bins
        options = _attributes(node)
        bins, map_before = self._old.get(node.output[0]), self._old.get(node.input[0])
        if not bins or not map_before or not {"kernel_shape", "strides"} >= set(options):
            return None
        if any(a is None or b is None or a >= b for a, b in zip(bins, map_before, strict=True)):
            return None  # as many bins as rows: there may be more of them in a larger map
        counts = [min(count or 1, side) for count, side in zip(bins, size, strict=True)]
        strides = [side // count for side, count in zip(size, counts, strict=True)]
        window = [
            side - (count - 1) * step
            for side, count, step in zip(size, counts, strides, strict=True)
        ]
        self.pools.append((node, (window[0], window[1]), (strides[0], strides[1])))
        return counts[0], counts[1]

    def _enlarged(self, node: Any, size: Size) -> Size | None:
        """Bring it to what is the same part of the frame as before."""
        old = self._old.get(node.output[0])
        if old is None or len(node.input) != 3 or node.input[2] not in self._constants:
            return None
        target = []
        for was, before, after in zip(old, self._before, self._after, strict=True):
            if was is None or was * after % before:
                return None
            target.append(was * after // before)
        factors = [upscale_factor(*pair) for pair in zip(size, target, strict=True)]
        self.scales.append((node, (factors[0], factors[1])))
        return target[0], target[1]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
