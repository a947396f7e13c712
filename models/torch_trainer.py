"""One optimiser step on torch: BF16 autocast, AdamW or SGD, averaged weights.

Fast on a CPU for three reasons found by measuring: fused operations with BF16 matrix
units (`rtseg.models.torch_twin`), a loss at a quarter of the size that is still right
for full-size labels, and freed memory that stays with the process.
"""

from __future__ import annotations

import copy
import ctypes
import io
import math
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from rtseg.models.augment import boundary_pixels
from rtseg.models.config import ENCODER, TrainConfig, check_frozen, is_frozen, sides
from rtseg.models.errors import ModelError, loss_diverged
from rtseg.models.files import write_whole
from rtseg.models.stock import Batch
from rtseg.models.torch_losses import phase_loss, soft_loss
from rtseg.models.torch_twin import TorchTwin

if TYPE_CHECKING:
    import keras


def keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks; fresh pages cost half of a step else."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_max = -1, -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)


def computes_bfloat16_fast(
    device: torch.device, twin: TorchTwin, size: tuple[int, int], batch: int
) -> bool:
    """Return whether BF16 is the quicker arithmetic for a network there.

    It is on GPUs and on CPUs with AMX. On other CPUs it is tried: with AVX-512 alone, a step of
    espnet-lite takes two thirds as long in BF16 as in float32 on one maker's processor, and half as
    long again on another's.

    Args:
        device: where the network is.
        twin: a copy of the network that nobody needs; its BatchNorm statistics change.
        size: (height, width) of the views to try, in pixels.
        batch: how many of them.
    """
    if device.type != "cpu" or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():
        return True
    twin.train()
    # A run's own random numbers must not depend on this.
    with torch.random.fork_rng(devices=[]):
        frames = torch.rand(batch, 3, *size) * 255
        seconds = dict.fromkeys((True, False), math.inf)
        for low in (*seconds, *seconds, *seconds):
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                twin(frames).float().mean().backward()
            seconds[low] = min(seconds[low], time.perf_counter() - began)
    return seconds[True] < seconds[False]


class DecoupledSGD(torch.optim.SGD):  # type: ignore[misc]
    """SGD that shrinks the weights beside the gradient step, as AdamW and Keras' SGD do.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Any = None) -> Any:
        """Shrink the weights that have a gradient, then take the step without decay."""
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
            group["weight_decay"] = 0.0
        try:
            return super().step(closure)
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay


class TorchTrainer:
    """Holds the weights of a run while it trains on torch.

    Args:
        build: makes the Keras network for a (height, width).
        config: the run.
        class_weights: float32 (C,).
        prepare: called once on the first Keras network, to load starting weights.
        device: where to compute; None for a GPU that torch can use, else the CPU.
    """

    name = "torch"
    suffix = ".pt"

    def __init__(
        self,
        build: Callable[[int, int], keras.Model],
        config: TrainConfig,
        class_weights: NDArray[np.float32],
        prepare: Callable[[keras.Model], Any] = lambda model: None,
        *,
        device: str | None = None,
    ) -> None:
        keep_freed_memory()
        # What Keras' initialisers draw their seeds from; its own function imports TensorFlow.
        random.seed(config.seed)
        torch.manual_seed(config.seed)
        usable = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(usable if device is None else device)
        self._build, self._config = build, config
        self._size = sides(config.size)
        self._model = build(*self._size)
        prepare(self._model)
        twin = TorchTwin(self._model)
        self._root = twin.to(device=self._device, memory_format=torch.channels_last)
        self._low = config.precision == "bfloat16" or (
            config.precision == "auto" and self._bfloat16_is_fast()
        )
        self._average = copy.deepcopy(self._root.modules_by_layer).requires_grad_(False)
        self._views: dict[tuple[tuple[int, ...], bool], TorchTwin] = {
            (self._size, False): self._root
        }
        self._weights = torch.from_numpy(class_weights).to(self._device)
        check_frozen(config, list(self._root.modules_by_layer))
        self._frozen = [
            module
            for name, module in self._root.modules_by_layer.items()
            if is_frozen(name, config)
        ]
        for module in self._frozen:
            module.requires_grad_(False)
        self._extra = self._auxiliary_head(len(class_weights))
        self._optimiser = self._make_optimiser()
        self._phase_rng = np.random.default_rng(config.seed + 1)
        self.step_count = 0

    def _bfloat16_is_fast(self) -> bool:
        phase = self._config.phases[0]
        size = sides(phase.crop)
        copied = TorchTwin(self._build(*size))
        copied = copied.to(device=self._device, memory_format=torch.channels_last)
        return computes_bfloat16_fast(self._device, copied, size, min(phase.batch, 4))

    def _auxiliary_head(self, classes: int) -> torch.nn.ModuleDict:
        """Return the layers that only training has: none, or a 1x1 convolution."""
        loss = self._config.loss
        if not loss.auxiliary:
            return torch.nn.ModuleDict()
        place = self._root.place(loss.auxiliary_at)
        channels = self._root.steps[place].layer.output.shape[-1]
        head = torch.nn.Conv2d(channels, classes, 1).to(self._device)
        return torch.nn.ModuleDict({"auxiliary": head})

    def _make_optimiser(self) -> torch.optim.Optimizer:
        if self._config.optimiser == "sgd":
            return DecoupledSGD(self._groups(), lr=0.0, momentum=0.9, nesterov=True)
        return torch.optim.AdamW(self._groups(), fused=True)

    def _groups(self) -> list[dict[str, Any]]:
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, module in [*self._root.modules_by_layer.items(), *self._extra.items()]:
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                key = (name.startswith(ENCODER), parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        config = self._config
        return [
            {
                "params": parameters,
                "lr": 0.0,
                "peak": config.encoder_rate if encoder else config.head_rate,
                "weight_decay": config.weight_decay if kernel else 0.0,
            }
            for (encoder, kernel), parameters in groups.items()
        ]

    def _view(self, size: tuple[int, ...], average: bool) -> TorchTwin:
        if (size, average) not in self._views:
            model = self._model if size == self._size else self._build(*size)
            twin = TorchTwin(model, shared=self._root)
            if average:
                twin.use(self._average)
            self._views[size, average] = twin
        return self._views[size, average]

    def train_step(self, batch: Batch, rate: float) -> float:
        """Take one step; return the loss.

        Args:
            batch: views of one size.
            rate: factor on the peak learning rates.

        Raises:
            ModelError: the loss is not finite; the weights are as before the step.
        """
        twin = self._view(batch.images.shape[1:3], average=False)
        twin.train()
        for module in self._frozen:
            module.eval()
        loss = self._loss(twin, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise loss_diverged(value, self.step_count)
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [*self._root.parameters(), *self._extra.parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, self._config.clip)
        self._optimiser.step()
        self.step_count += 1
        self._update_average()
        return value

    def _loss(self, twin: TorchTwin, batch: Batch) -> torch.Tensor:
        config = self._config
        frames = self._frames(batch.images)
        target = torch.from_numpy(batch.labels).to(self._device).long()
        place = twin.place(config.loss.auxiliary_at) if self._extra else -1
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low):
            logits, feature = twin.forward_with(frames, place)
            outputs = [(logits.float(), 1.0)]
            if self._extra:
                second = self._extra["auxiliary"](feature).float()
                # Both heads are judged at the same pixels.
                second = F.interpolate(second, logits.shape[2:], mode="bilinear")
                outputs.append((second, config.loss.auxiliary))
        emphasis = None
        if config.loss.boundary:
            near = boundary_pixels(batch.labels, config.loss.boundary_px)
            emphasis = 1.0 + config.loss.boundary * torch.from_numpy(near).to(self._device).float()
        stride = batch.labels.shape[1] // logits.shape[2]
        first = self._phase_rng.integers(stride, size=2)
        total = torch.zeros((), device=self._device)
        # A second phase, half a cell away, halves the noise for little.
        for phase in (first, (first + stride // 2) % stride):
            p, q = (int(value) for value in phase)
            for output, weight in outputs:
                one = phase_loss(output, target, (p, q), self._weights, config.loss, emphasis)
                total = total + 0.5 * weight * one
        if config.distill and batch.soft is not None:
            soft = torch.from_numpy(batch.soft).to(self._device).float() / 255.0
            seen = logits.float()
            if seen.shape[2:] != soft.shape[2:]:  # a network whose logits have another stride
                seen = F.interpolate(seen, soft.shape[2:], mode="bilinear")
            total = total + config.distill * soft_loss(seen, soft, self._weights)
        return total

    def _frames(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Bring RGB uint8 (N, H, W, 3) to the device as float (N, 3, H, W)."""
        return torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float()

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _update_average(self) -> None:
        decay = min(self._config.ema, self.step_count / (self.step_count + 10))
        live, slow = self._root.modules_by_layer.state_dict(), self._average.state_dict()
        for key, value in slow.items():
            if value.dtype.is_floating_point:
                value.lerp_(live[key], 1.0 - decay)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def settle_norms(self, batches: Iterable[Batch]) -> None:
        """Take the averaged weights' BatchNorm statistics from ``batches`` alone."""
        norms = [
            module
            for name, module in self._average.items()
            if isinstance(module, torch.nn.BatchNorm2d) and not is_frozen(name, self._config)
        ]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all batches
        for batch in batches:
            twin = self._view(batch.images.shape[1:3], average=True)
            twin.eval()  # without dropout, as the network will run
            for norm in norms:
                norm.train()
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low):
                twin(self._frames(batch.images))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def predict(self, images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Classify with the averaged weights: RGB uint8 (N, H, W, 3) to uint8 (N, h, w).

        Args:
            images: of a size that the network takes.
            size: (h, w) of the answer, in pixels; logits are enlarged to it.
        """
        twin = self._view(images.shape[1:3], average=True)
        twin.eval()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low):
            logits = twin(self._frames(images))
        logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        return np.asarray(logits.argmax(1).to(torch.uint8).cpu().numpy())

    def averaged_model(self) -> keras.Model:
        """Return the Keras network of the run's size with the averaged weights."""
        self._view(self._size, average=True).copy_to(self._model)
        return self._model

    def save(self, path: Path, progress: dict[str, float] | None = None) -> None:
        """Write everything an exact resume needs, all or nothing.

        Raises:
            ModelError: the disk is full or the folder not writable.
        """
        state = {
            "weights": self._root.modules_by_layer.state_dict(),
            "extra": self._extra.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "phase_rng": self._phase_rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "step": self.step_count,
            "bfloat16": self._low,
            "progress": progress and dict(progress),
        }
        data = io.BytesIO()
        torch.save(state, data)
        write_whole(path, data.getvalue())

    def load(self, path: Path) -> dict[str, float] | None:
        """Continue from `save`; return its ``progress``, None in a file from before.

        Raises:
            ModelError: the file is damaged or of another network.
        """
        try:
            # Numbers and names alone: a checkpoint that somebody passes on must not run code.
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._root.modules_by_layer.load_state_dict(state["weights"])
            self._extra.load_state_dict(state["extra"])
            self._average.load_state_dict(state["average"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._phase_rng.bit_generator.state = state["phase_rng"]
            torch.set_rng_state(state["torch_rng"])
            self.step_count = int(state["step"])
            self._low = bool(state.get("bfloat16", True))
            progress: dict[str, float] | None = state.get("progress")
            return progress
        except Exception as error:
            raise ModelError(
                f"cannot resume from {path}: {str(error).splitlines()[0]}", reason="BAD_WEIGHTS"
            ) from error
