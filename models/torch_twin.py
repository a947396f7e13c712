"""The accelerated trainer's form of a network: a Keras graph as a torch module.

Keras' own layers on torch compose BatchNorm and padding from small operations,
which costs half the speed of a CPU and keeps BF16 matrix units idle. The twin
runs the same graph on torch's fused operations. It reads its weights from the
Keras model and writes them back, so a checkpoint never depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models.errors import ModelError
from rtseg.models.graph import Step, steps_of, unsupported

if TYPE_CHECKING:
    import keras

Operation = Callable[[list[Tensor]], Tensor]


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same" padding of one side: (before, after)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class _Depthwise(torch.autograd.Function):  # type: ignore[misc]
    """Depthwise convolution whose backward runs in float32 where BF16 has no kernel.

    oneDNN falls back to slow kernels for the BF16 weight gradient of 5x5 and the
    BF16 input gradient of strided depthwise convolutions (4 to 10 times slower
    than float32 on a CPU with AVX-512), so those two are computed in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
    ) -> Tensor:
        low = weight.to(x.dtype)
        ctx.save_for_backward(x, low)
        ctx.stride, ctx.padding, ctx.dilation = stride, padding, dilation
        ctx.weight_dtype = weight.dtype
        return F.conv2d(x, low, None, stride, padding, dilation, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        grad = grads[0]

        def run(dtype: torch.dtype, source: Tensor, mask: list[bool]) -> Any:
            return torch.ops.aten.convolution_backward(
                grad.to(dtype),
                source,
                weight.to(dtype),
                [0],
                [ctx.stride] * 2,
                [ctx.padding] * 2,
                [ctx.dilation] * 2,
                False,
                [0, 0],
                weight.shape[0],
                mask,
            )

        full = torch.float32
        for_x = full if ctx.stride > 1 else x.dtype
        # Only the shape of the input matters for its own gradient.
        shape_only = torch.empty(1, dtype=for_x, device=x.device).expand(x.shape)
        grad_x = run(for_x, shape_only, [True, False, False])[0]
        for_weight = full if ctx.stride > 1 or weight.shape[-1] > 3 else x.dtype
        grad_weight = run(for_weight, x.to(for_weight), [False, True, False])[1]
        return grad_x.to(x.dtype), grad_weight.to(ctx.weight_dtype), None, None, None


class _Conv(nn.Module):  # type: ignore[misc]
    """Conv2D or DepthwiseConv2D with TensorFlow padding, mirrored.

    TensorFlow pads an even size for a strided convolution on the far side only,
    which costs torch a copy of the map. On a mirrored map with mirrored kernels
    the same padding is torch's own symmetric one, so the twin works mirrored in
    both axes from the first layer to the last.
    """

    def __init__(self, layer: Any, depthwise: bool) -> None:
        super().__init__()
        kernel = np.asarray(layer.get_weights()[0], np.float32)
        # Keras: (h, w, in, out); depthwise (h, w, channels, 1). Torch: (out, in, h, w).
        axes = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        self.weight = nn.Parameter(torch.from_numpy(kernel[::-1, ::-1].transpose(axes).copy()))
        self.bias: nn.Parameter | None = None
        if layer.use_bias:
            self.bias = nn.Parameter(torch.from_numpy(layer.get_weights()[1].copy()))
        self.groups = kernel.shape[2] if depthwise else 1
        self.stride = int(layer.strides[0])
        self.kernel = int(layer.kernel_size[0])
        self.dilation = int(layer.dilation_rate[0])
        self.same = layer.padding == "same"
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        padding = 0
        if self.same and (self.kernel > 1 or self.stride > 1):
            reach = (self.kernel - 1) * self.dilation + 1
            # Mirrored: what TensorFlow pads behind comes before.
            bottom, top = _same_padding(x.shape[2], reach, self.stride)
            right, left = _same_padding(x.shape[3], reach, self.stride)
            padding = top
            if (
                left != top
                or top - bottom not in (0, self.stride - 1)
                or top - bottom != left - right
            ):
                x = F.pad(x, (left, right, top, bottom))
                padding = 0
        if self.groups > 1 and self.bias is None:
            kind = x.device.type
            if torch.is_autocast_enabled(kind):
                x = x.to(torch.get_autocast_dtype(kind))
            return _Depthwise.apply(x, self.weight, self.stride, padding, self.dilation)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def keras_weights(self) -> list[np.ndarray]:
        inverse = np.argsort(self.axes)
        weights = [self.weight.detach().cpu().numpy().transpose(inverse)[::-1, ::-1].copy()]
        if self.bias is not None:
            weights.append(self.bias.detach().cpu().numpy().copy())
        return weights


class _Norm(nn.BatchNorm2d):  # type: ignore[misc]
    """BatchNormalization; torch's momentum is the complement of Keras'."""

    def __init__(self, layer: Any) -> None:
        gamma, beta, mean, variance = layer.get_weights()
        super().__init__(len(gamma), eps=layer.epsilon, momentum=1.0 - layer.momentum)
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(gamma))
            self.bias.copy_(torch.from_numpy(beta))
            self.running_mean.copy_(torch.from_numpy(mean))
            self.running_var.copy_(torch.from_numpy(variance))

    def keras_weights(self) -> list[np.ndarray]:
        tensors = (self.weight, self.bias, self.running_mean, self.running_var)
        return [t.detach().cpu().numpy().copy() for t in tensors if t is not None]


def _unpool(values: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Put each value where the maximum of its 2x2 window was, as `MaxUnpool` does."""
    where = before == F.interpolate(after, scale_factor=2, mode="nearest")
    return F.interpolate(values, scale_factor=2, mode="nearest") * where


def _stateless(step: Step) -> Operation:
    """Return the torch operation of a layer without weights."""
    layer, kind = step.layer, step.kind
    if kind == "Add":
        return lambda xs: sum(xs[1:], xs[0])
    if kind == "Multiply":
        return lambda xs: xs[0] * xs[1]
    if kind == "Concatenate":
        return lambda xs: torch.cat(xs, 1)
    if kind == "ReLU":
        limit = layer.max_value
        if limit is None:
            return lambda xs: F.relu(xs[0])
        return lambda xs: F.hardtanh(xs[0], 0.0, float(limit))
    if kind == "Activation":
        table: dict[str, Operation] = {
            "silu": lambda xs: F.silu(xs[0]),
            "relu": lambda xs: F.relu(xs[0]),
            "sigmoid": lambda xs: torch.sigmoid(xs[0]),
        }
        if layer.activation.__name__ in table:
            return table[layer.activation.__name__]
    if kind == "Resize":
        size = (layer.height, layer.width)
        return lambda xs: F.interpolate(xs[0], size, mode="bilinear", align_corners=False)
    if kind == "AveragePooling2D" and layer.padding == "valid":
        window, strides = tuple(layer.pool_size), tuple(layer.strides)
        return lambda xs: F.avg_pool2d(xs[0], window, strides)
    if kind == "MaxPooling2D" and layer.padding == "valid":
        window, strides = tuple(layer.pool_size), tuple(layer.strides)
        return lambda xs: F.max_pool2d(xs[0], window, strides)
    if kind == "MaxUnpool":
        return lambda xs: _unpool(*xs)
    if kind == "GlobalAveragePooling2D" and layer.keepdims:
        return lambda xs: xs[0].mean((2, 3), keepdim=True)
    raise unsupported(step, "the accelerated trainer")


class TorchTwin(nn.Module):  # type: ignore[misc]
    """A Keras segmentation network on torch operations.

    Args:
        model: functional Keras model with one input (N, H, W, 3) and one output.

        shared: a twin of the same network at another input size; both then have
            the same weights.

    Called with float RGB 0..255 (N, 3, H, W), it returns logits (N, C, h, w).
    """

    def __init__(self, model: keras.Model, shared: TorchTwin | None = None) -> None:
        super().__init__()
        self.steps = steps_of(model)
        self.modules_by_layer: nn.ModuleDict = (
            shared.modules_by_layer if shared is not None else nn.ModuleDict()
        )
        self.operations: list[Operation | nn.Module | None] = []
        for step in self.steps:
            self.operations.append(self._operation(step))

    def _operation(self, step: Step) -> Operation | nn.Module | None:
        layer, name = step.layer, step.layer.name
        if step.kind == "InputLayer":
            return None
        if step.kind == "Rescaling":
            scale = torch.tensor(layer.scale, dtype=torch.float32).reshape(1, -1, 1, 1)
            offset = torch.tensor(layer.offset, dtype=torch.float32).reshape(1, -1, 1, 1)
            # Constants, not weights: they follow the frames to their device.
            return lambda xs: xs[0] * scale.to(xs[0].device) + offset.to(xs[0].device)
        if step.kind in ("Dropout", "SpatialDropout2D", "MonteCarloDropout"):
            rate = float(layer.rate)
            drop = F.dropout2d if step.kind == "SpatialDropout2D" else F.dropout
            always = getattr(layer, "sampling", False)
            return lambda xs: drop(xs[0], rate, self.training or always)
        if step.kind in ("Conv2D", "DepthwiseConv2D", "BatchNormalization"):
            if name not in self.modules_by_layer:
                if step.kind == "BatchNormalization":
                    self.modules_by_layer[name] = _Norm(layer)
                else:
                    depthwise = step.kind == "DepthwiseConv2D"
                    self.modules_by_layer[name] = _Conv(layer, depthwise)
            return self.modules_by_layer[name]
        return _stateless(step)

    def use(self, modules: nn.ModuleDict) -> None:
        """Replace the layers with weights by others of the same names."""
        self.modules_by_layer = modules
        for index, step in enumerate(self.steps):
            if step.layer.name in modules:
                self.operations[index] = modules[step.layer.name]

    def place(self, layer: str) -> int:
        """Return the number of the step of ``layer``, for `forward_with`.

        Raises:
            ModelError: no such layer.
        """
        names = [step.layer.name for step in self.steps]
        if layer not in names:
            raise ModelError(
                f"the network has no layer {layer!r}. Allowed: {', '.join(names)}",
                reason="BAD_CONFIG",
            )
        return names.index(layer)

    def forward(self, frames: Tensor) -> Tensor:
        """Compute logits (N, C, h, w) of float RGB 0..255 (N, 3, H, W)."""
        return self.forward_with(frames, -1)[0]

    def forward_with(self, frames: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """Compute logits, and what step ``place`` gives, both (N, C, h, w)."""
        values: list[Tensor] = [frames.flip((2, 3))]
        for step, operation in zip(self.steps[1:], self.operations[1:], strict=True):
            inputs = [values[i] for i in step.inputs]
            if isinstance(operation, nn.Module):
                values.append(operation(inputs[0]))
            else:
                assert operation is not None
                values.append(operation(inputs))
        logits = values[-1].flip((2, 3))
        return logits, logits if place == -1 else values[place].flip((2, 3))

    def copy_to(self, model: keras.Model) -> None:
        """Write the weights into ``model``, layer by layer."""
        for name, module in self.modules_by_layer.items():
            model.get_layer(name).set_weights(module.keras_weights())
