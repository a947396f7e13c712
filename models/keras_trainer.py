"""One optimiser step in plain Keras, on whichever backend Keras runs: TensorFlow, JAX, torch.

The counterpart of `rtseg.models.torch_trainer` for machines where Keras itself is fast.
The loss is taken at the full size of the labels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from rtseg.engines.labels import VOID_ID
from rtseg.models.config import TrainConfig
from rtseg.models.errors import ModelError
from rtseg.models.layers import Resize

_ENCODER = ("stem", "block")


class TwoRateAdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW whose encoder variables take ``encoder_factor`` times the learning rate."""

    def __init__(self, *args: Any, encoder_factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.encoder_factor = encoder_factor

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        # TensorFlow hands its own variable in, which has a name but no path.
        if getattr(variable, "path", variable.name).startswith(_ENCODER):
            learning_rate = learning_rate * self.encoder_factor
        super().update_step(gradient, variable, learning_rate)


class KerasTrainer:
    """Holds the weights of a run while Keras trains them.

    Args:
        build: makes the Keras network for a (height, width).
        config: the run.
        class_weights: float32 (C,).
        prepare: called once on the network, to load starting weights.
    """

    name = "keras"
    suffix = ".npz"

    def __init__(
        self,
        build: Callable[[int, int], keras.Model],
        config: TrainConfig,
        class_weights: NDArray[np.float32],
        prepare: Callable[[keras.Model], Any] = lambda model: None,
    ) -> None:
        self._build, self._config = build, config
        keras.utils.set_random_seed(config.seed)
        #: The network at the run's size: judged and exported, never trained itself.
        self._model = build(config.size, config.size)
        prepare(self._model)
        self._average = [np.array(w, np.float32) for w in self._model.get_weights()]
        self._weights = np.zeros(256, np.float32)
        self._weights[: len(class_weights)] = class_weights
        self._live: keras.Model | None = None
        self._trainee: keras.Model | None = None
        self._side = 0
        self.step_count = 0

    def _trainee_at(self, side: int) -> keras.Model:
        """Return the compiled network for crops of ``side``; weights and state carry over."""
        if self._trainee is not None and side == self._side:
            return self._trainee
        config = self._config
        live = self._build(side, side)
        live.set_weights((self._live or self._model).get_weights())
        full = Resize(side, side, name="full")(live.outputs[0])
        trainee = keras.Model(live.inputs, full)
        optimiser = TwoRateAdamW(
            config.head_rate,
            weight_decay=config.weight_decay,
            global_clipnorm=config.clip,
            encoder_factor=config.encoder_rate / config.head_rate,
        )
        optimiser.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        optimiser.build(trainee.trainable_variables)
        if self._trainee is not None:
            for new, old in zip(
                optimiser.variables, self._trainee.optimizer.variables, strict=True
            ):
                new.assign(old)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trainee.compile(optimizer=optimiser, loss=loss)
        self._live, self._trainee, self._side = live, trainee, side
        return trainee

    def train_step(
        self, images: NDArray[np.uint8], labels: NDArray[np.uint8], rate: float
    ) -> float:
        """Take one step on RGB uint8 (N, S, S, 3) and trainIds (N, S, S); return the loss.

        Raises:
            ModelError: the loss is not finite.
        """
        trainee = self._trainee_at(images.shape[1])
        trainee.optimizer.learning_rate = self._config.head_rate * rate
        weights = self._weights[labels]
        # Keras divides by the number of pixels; make that the mean over labelled ones.
        weights *= weights.size / max(float(weights.sum()), 1e-6)
        target = np.where(labels == VOID_ID, 0, labels).astype(np.int32)
        value = float(
            trainee.train_on_batch(images.astype(np.float32), target, sample_weight=weights)
        )
        if not math.isfinite(value):
            raise ModelError(
                f"the loss became {value} at step {self.step_count}; "
                "resume from the last checkpoint with lower learning rates",
                reason="NAN_LOSS",
            )
        self.step_count += 1
        decay = min(self._config.ema, self.step_count / (self.step_count + 10))
        assert self._live is not None
        for slow, live in zip(self._average, self._live.get_weights(), strict=True):
            slow += (1.0 - decay) * (live - slow)
        return value

    def predict(self, images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Classify RGB uint8 (N, S, S, 3) with the averaged weights at ``size`` (h, w)."""
        logits = self.averaged_model().predict_on_batch(images.astype(np.float32))
        full = keras.ops.image.resize(logits, size, antialias=False, data_format="channels_last")
        return np.asarray(keras.ops.convert_to_numpy(keras.ops.argmax(full, -1)), np.uint8)

    def averaged_model(self) -> keras.Model:
        """Return the Keras network of the run's size with the averaged weights."""
        self._model.set_weights(self._average)
        return self._model

    def save(self, path: Path) -> None:
        """Write everything an exact resume needs, all or nothing.

        Raises:
            ModelError: the disk is full or the folder not writable.
        """
        trainee = self._trainee_at(self._side or self._config.size)
        assert self._live is not None
        arrays = {
            "step": np.array([self.step_count, self._side]),
            **{f"weight{i:04d}": w for i, w in enumerate(self._live.get_weights())},
            **{f"average{i:04d}": w for i, w in enumerate(self._average)},
            **{
                f"optimiser{i:04d}": np.asarray(keras.ops.convert_to_numpy(v))
                for i, v in enumerate(trainee.optimizer.variables)
            },
        }
        partial = path.with_name("partial." + path.name)
        try:
            np.savez(partial, **arrays)
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise ModelError(
                f"cannot write checkpoint {path}: {error.strerror or error}; "
                "the one before is untouched",
                reason="NO_SPACE",
            ) from error

    def load(self, path: Path) -> None:
        """Continue from `save`.

        Raises:
            ModelError: the file is damaged or of another network.
        """
        try:
            with np.load(path) as archive:
                groups: dict[str, list[NDArray[Any]]] = {}
                for key in sorted(archive.files):
                    groups.setdefault(key.rstrip("0123456789"), []).append(archive[key])
            step, side = (int(v) for v in groups["step"][0])
            self._model.set_weights(groups["weight"])
            self._live = self._trainee = None
            trainee = self._trainee_at(side)
            for variable, value in zip(
                trainee.optimizer.variables, groups["optimiser"], strict=True
            ):
                variable.assign(value)
            self._average = [np.array(w, np.float32) for w in groups["average"]]
            self.step_count = step
        except Exception as error:
            raise ModelError(
                f"cannot resume from {path}: {str(error).splitlines()[0]}", reason="BAD_WEIGHTS"
            ) from error
