"""One optimiser step on torch: BF16 autocast, AdamW, averaged weights.

Fast on a CPU for three reasons found by measuring: fused operations with BF16 matrix
units (`rtseg.models.torch_twin`), a loss at a quarter of the size that is still right
for full-size labels, and freed memory that stays with the process.
"""

from __future__ import annotations

import copy
import ctypes
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from rtseg.engines.labels import VOID_ID
from rtseg.models.config import TrainConfig
from rtseg.models.errors import ModelError
from rtseg.models.torch_twin import TorchTwin

if TYPE_CHECKING:
    import keras

_ENCODER = ("stem", "block")


def keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks; fresh pages cost half of a step else."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_max = -1, -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)


def shift_logits(logits: torch.Tensor, dy: float, dx: float) -> torch.Tensor:
    """Sample (N, C, h, w) bilinearly at every cell's centre moved by (dy, dx) cells.

    Both within -1..1; the border is repeated.
    """
    for axis, move in ((2, dy), (3, dx)):
        if move:
            size = logits.shape[axis]
            edge = logits.narrow(axis, size - 1 if move > 0 else 0, 1)
            if move > 0:
                neighbour = torch.cat([logits.narrow(axis, 1, size - 1), edge], axis)
            else:
                neighbour = torch.cat([edge, logits.narrow(axis, 0, size - 1)], axis)
            logits = torch.lerp(logits, neighbour, abs(move))
    return logits


def phase_loss(
    logits: torch.Tensor, labels: torch.Tensor, phase: tuple[int, int], weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy on one of every stride x stride label pixels.

    Upsampled logits at label row k * stride + p are the logits moved by
    (p + 0.5) / stride - 0.5 cells, so this equals the full-size loss in the mean over
    random phases, at the cost of the small map.

    Args:
        logits: float (N, C, h, w).
        labels: int64 (N, h * stride, w * stride), 255 ignored.
        phase: which pixel of each cell.
        weights: float (C,).
    """
    stride = labels.shape[1] // logits.shape[2]
    moves = [(p + 0.5) / stride - 0.5 for p in phase]
    target = labels[:, phase[0] :: stride, phase[1] :: stride]
    moved = shift_logits(logits, moves[0], moves[1])
    return F.cross_entropy(moved, target, weights, ignore_index=VOID_ID)


class TorchTrainer:
    """Holds the weights of a run while it trains on torch.

    Args:
        build: makes the Keras network for a (height, width).
        config: the run.
        class_weights: float32 (C,).
        prepare: called once on the first Keras network, to load starting weights.
    """

    name = "torch"
    suffix = ".pt"

    def __init__(
        self,
        build: Callable[[int, int], keras.Model],
        config: TrainConfig,
        class_weights: NDArray[np.float32],
        prepare: Callable[[keras.Model], Any] = lambda model: None,
    ) -> None:
        keep_freed_memory()
        self._build, self._config = build, config
        self._model = build(config.size, config.size)
        prepare(self._model)
        self._root = TorchTwin(self._model).to(memory_format=torch.channels_last)
        self._average = copy.deepcopy(self._root.modules_by_layer).requires_grad_(False)
        self._views: dict[tuple[int, bool], TorchTwin] = {(config.size, False): self._root}
        self._weights = torch.from_numpy(class_weights)
        self._optimiser = torch.optim.AdamW(self._groups(), fused=True)
        self._phase_rng = np.random.default_rng(config.seed + 1)
        self.step_count = 0

    def _groups(self) -> list[dict[str, Any]]:
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, module in self._root.modules_by_layer.items():
            for parameter in module.parameters(recurse=False):
                key = (name.startswith(_ENCODER), parameter.ndim > 1)
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

    def _view(self, side: int, average: bool) -> TorchTwin:
        if (side, average) not in self._views:
            model = self._model if side == self._config.size else self._build(side, side)
            twin = TorchTwin(model, shared=self._root)
            if average:
                twin.use(self._average)
            self._views[side, average] = twin
        return self._views[side, average]

    def train_step(
        self, images: NDArray[np.uint8], labels: NDArray[np.uint8], rate: float
    ) -> float:
        """Take one step on RGB uint8 (N, S, S, 3) and trainIds (N, S, S); return the loss.

        Raises:
            ModelError: the loss is not finite; the weights are as before the step.
        """
        twin = self._view(images.shape[1], average=False)
        twin.train()
        frames = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        target = torch.from_numpy(labels.astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            logits = twin(frames)
        stride = labels.shape[1] // logits.shape[2]
        first = self._phase_rng.integers(stride, size=2)
        # A second phase, half a cell away, halves the noise for little.
        phases = [tuple(first), tuple((first + stride // 2) % stride)]
        logits = logits.float()
        losses = [phase_loss(logits, target, (int(p), int(q)), self._weights) for p, q in phases]
        loss = torch.stack(losses).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(
                f"the loss became {value} at step {self.step_count}; "
                "resume from the last checkpoint with lower learning rates",
                reason="NAN_LOSS",
            )
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._root.parameters(), self._config.clip)
        self._optimiser.step()
        self.step_count += 1
        self._update_average()
        return value

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _update_average(self) -> None:
        decay = min(self._config.ema, self.step_count / (self.step_count + 10))
        live, slow = self._root.modules_by_layer.state_dict(), self._average.state_dict()
        for key, value in slow.items():
            if value.dtype.is_floating_point:
                value.lerp_(live[key], 1.0 - decay)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def predict(self, images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Classify RGB uint8 (N, S, S, 3) with the averaged weights at ``size`` (h, w)."""
        twin = self._view(images.shape[1], average=True)
        twin.eval()
        frames = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        with torch.autocast("cpu", torch.bfloat16):
            logits = twin(frames)
        logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        return np.asarray(logits.argmax(1).to(torch.uint8).numpy())

    def averaged_model(self) -> keras.Model:
        """Return the Keras network of the run's size with the averaged weights."""
        self._view(self._config.size, average=True).copy_to(self._model)
        return self._model

    def save(self, path: Path) -> None:
        """Write everything an exact resume needs, all or nothing.

        Raises:
            ModelError: the disk is full or the folder not writable.
        """
        state = {
            "weights": self._root.modules_by_layer.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "phase_rng": self._phase_rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "step": self.step_count,
        }
        partial = path.with_name(path.name + ".partial")
        try:
            torch.save(state, partial)
            os.replace(partial, path)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                partial.unlink()
            raise ModelError(
                f"cannot write checkpoint {path}: {str(error).splitlines()[0]}; "
                "the one before is untouched",
                reason="NO_SPACE",
            ) from error

    def load(self, path: Path) -> None:
        """Continue from `save`.

        Raises:
            ModelError: the file is damaged or of another network.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=False)
            self._root.modules_by_layer.load_state_dict(state["weights"])
            self._average.load_state_dict(state["average"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._phase_rng.bit_generator.state = state["phase_rng"]
            torch.set_rng_state(state["torch_rng"])
            self.step_count = int(state["step"])
        except Exception as error:
            raise ModelError(
                f"cannot resume from {path}: {str(error).splitlines()[0]}", reason="BAD_WEIGHTS"
            ) from error
