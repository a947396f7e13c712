"""One optimiser step in plain Keras, on whichever backend Keras runs: TensorFlow, JAX, torch.

The counterpart of `rtseg.models.torch_trainer` for machines where Keras itself is fast.
The loss is taken at the full size of the labels.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from rtseg.engines.labels import VOID_ID
from rtseg.models.augment import SOFT_STRIDE, boundary_pixels
from rtseg.models.config import ENCODER, TrainConfig, check_frozen, is_frozen, sides
from rtseg.models.errors import ModelError, loss_diverged
from rtseg.models.files import write_whole
from rtseg.models.keras_losses import choose_members, labelled_loss, soft_loss
from rtseg.models.layers import Resize
from rtseg.models.stock import Batch


def _own_rate(optimiser: Any, variable: Any, learning_rate: Any) -> Any:
    """Return the rate of one variable: the encoder's is ``encoder_factor`` times the head's."""
    # TensorFlow hands its own variable in, which has a name but no path.
    if getattr(variable, "path", variable.name).startswith(ENCODER):
        return learning_rate * optimiser.encoder_factor
    return learning_rate


class _TwoRates:
    """What an optimiser needs so that encoder variables go at a rate of their own.

    Args:
        encoder_factor: the encoder's learning rate by the head's.
    """

    def __init__(self, *args: Any, encoder_factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.encoder_factor = encoder_factor

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        rate = _own_rate(self, variable, learning_rate)
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Any) -> None:
        """Shrink each variable at its own rate; Keras knows one for all."""
        optimiser: Any = self
        for variable in variables:
            if optimiser.weight_decay and optimiser._use_weight_decay(variable):
                rate = _own_rate(self, variable, optimiser.learning_rate)
                factor = keras.ops.cast(1.0 - rate * optimiser.weight_decay, variable.dtype)
                variable.assign(variable * factor)


class TwoRateAdamW(_TwoRates, keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW whose encoder variables take ``encoder_factor`` times the learning rate."""


class TwoRateSGD(_TwoRates, keras.optimizers.SGD):  # type: ignore[misc]
    """SGD whose encoder variables take ``encoder_factor`` times the learning rate."""


def find_layer(model: keras.Model, name: str) -> Any:
    """Return a layer of ``model``.

    Raises:
        ModelError: no such layer.
    """
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise ModelError(
            f"the network has no layer {name!r}. Allowed: {', '.join(names)}", reason="BAD_CONFIG"
        )
    return model.get_layer(name)


class Trainee(keras.Model):  # type: ignore[misc]
    """The network with its losses; ``y`` holds labels, weights and a teacher's view."""

    config: TrainConfig
    class_weights: NDArray[np.float32]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of one batch."""
        classes = y_pred["full"].shape[-1]
        labels = keras.ops.reshape(y["labels"], (-1,))
        weight = keras.ops.reshape(y["weight"], (-1,))
        total: Any = 0.0
        for head, factor in (("full", 1.0), ("auxiliary", self.config.loss.auxiliary)):
            if head in y_pred:
                logits = keras.ops.reshape(y_pred[head], (-1, classes))
                target, pixel = labels, weight
                if self.config.has_unions:
                    target = choose_members(logits, labels)
                    table = keras.ops.convert_to_tensor(self.class_weights)
                    pixel = weight * keras.ops.take(table, target, axis=0)
                total += factor * labelled_loss(logits, target, pixel, self.config.loss)
        if "soft" in y:
            soft = soft_loss(y_pred["logits"], y["soft"], self.class_weights)
            total += self.config.distill * soft
        return total


def use_devices(count: int | None) -> int:
    """Spread each batch over ``count`` devices (None: all), with Keras' own distribution.

    Every device holds the whole network, gradients are averaged: what the paper did
    with Horovod. Call it before a `KerasTrainer` is made.

    Returns:
        The number of devices used.

    Raises:
        ModelError: Keras cannot distribute on its backend, or there are fewer devices.
    """
    if keras.backend.backend() != "jax":
        raise ModelError(
            f"several devices need the Keras backend jax (KERAS_BACKEND=jax). "
            f"Received: {keras.backend.backend()}",
            reason="BAD_CONFIG",
        )
    devices = keras.distribution.list_devices()
    if count is not None and not 1 <= count <= len(devices):
        raise ModelError(
            f"{count} devices asked for. Allowed: 1 to {len(devices)} ({', '.join(devices)})",
            reason="BAD_CONFIG",
        )
    chosen = devices[:count]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=chosen))
    return len(chosen)


def random_states(model: keras.Model) -> list[Any]:
    """Return the variables from which the dropout layers of ``model`` draw."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


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
        self._size = sides(config.size)
        self._model = build(*self._size)
        prepare(self._model)
        self._average = [np.array(w, np.float32) for w in self._model.get_weights()]
        self._weights = np.zeros(256, np.float32)
        self._weights[: len(class_weights)] = class_weights
        self._live: keras.Model | None = None
        self._trainee: keras.Model | None = None
        #: (height, width) of the views that `_trainee` takes.
        self._trained: tuple[int, int] | None = None
        self._auxiliary = keras.layers.Conv2D(
            self._model.output_shape[-1], 1, name="auxiliary", dtype="float32"
        )
        check_frozen(config, [layer.name for layer in self._model.layers])
        self.step_count = 0

    def _trainee_at(self, size: tuple[int, int]) -> keras.Model:
        """Return the compiled network for crops of ``size``; weights and state carry over."""
        if self._trainee is not None and size == self._trained:
            return self._trainee
        config = self._config
        live = self._build_live(size)
        live.set_weights((self._live or self._model).get_weights())
        if self._live is not None:
            for new, old in zip(random_states(live), random_states(self._live), strict=True):
                new.assign(old)
        for layer in live.layers:
            layer.trainable = not is_frozen(layer.name, config)
        outputs = {"full": Resize(*size, name="full")(live.outputs[0])}
        if config.distill:
            cells = (size[0] // SOFT_STRIDE, size[1] // SOFT_STRIDE)
            outputs["logits"] = Resize(*cells, name="soft")(live.outputs[0])
        if config.loss.auxiliary:
            feature = find_layer(live, config.loss.auxiliary_at).output
            outputs["auxiliary"] = Resize(*size, name="full2")(self._auxiliary(feature))
        trainee = Trainee(live.inputs, outputs)
        trainee.config, trainee.class_weights = config, self._weights[: live.output_shape[-1]]
        optimiser = self._make_optimiser()
        optimiser.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        optimiser.build(trainee.trainable_variables)
        if self._trainee is not None:
            for new, old in zip(
                optimiser.variables, self._trainee.optimizer.variables, strict=True
            ):
                new.assign(old)
        trainee.compile(optimizer=optimiser)
        self._live, self._trainee, self._trained = live, trainee, size
        return trainee

    def _build_live(self, size: tuple[int, int]) -> keras.Model:
        """Build the network for ``size``, in the run's arithmetic."""
        if self._config.precision != "bfloat16":
            return self._build(*size)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            return self._build(*size)
        finally:
            keras.config.set_dtype_policy(before)

    def _make_optimiser(self) -> Any:
        config = self._config
        common = {
            "weight_decay": config.weight_decay,
            "global_clipnorm": config.clip,
            "encoder_factor": config.encoder_rate / config.head_rate,
        }
        if config.optimiser == "sgd":
            return TwoRateSGD(config.head_rate, momentum=0.9, nesterov=True, **common)
        return TwoRateAdamW(config.head_rate, **common)

    def train_step(self, batch: Batch, rate: float) -> float:
        """Take one step; return the loss.

        Args:
            batch: views of one size.
            rate: factor on the peak learning rates.

        Raises:
            ModelError: the loss is not finite.
        """
        images = batch.images
        trainee = self._trainee_at(images.shape[1:3])
        trainee.optimizer.learning_rate = self._config.head_rate * rate
        value = float(trainee.train_on_batch(images.astype(np.float32), self._targets(batch)))
        if not math.isfinite(value):
            raise loss_diverged(value, self.step_count)
        self.step_count += 1
        decay = min(self._config.ema, self.step_count / (self.step_count + 10))
        assert self._live is not None
        for slow, live in zip(self._average, self._live.get_weights(), strict=True):
            slow += (1.0 - decay) * (live - slow)
        return value

    def _targets(self, batch: Batch) -> dict[str, NDArray[Any]]:
        config, labels = self._config, batch.labels
        # Which class a union counts as is known in the step only.
        weight = self._weights[labels]
        if config.has_unions:
            weight = (labels != VOID_ID).astype(np.float32)
        if config.loss.boundary:
            near = boundary_pixels(labels, config.loss.boundary_px)
            weight = weight * (1.0 + config.loss.boundary * near).astype(np.float32)
        target: dict[str, NDArray[Any]] = {
            "labels": np.where(labels == VOID_ID, 0, labels).astype(np.int32),
            "weight": weight,
        }
        if config.distill:
            rows, columns = labels.shape[1] // SOFT_STRIDE, labels.shape[2] // SOFT_STRIDE
            classes = self._model.output_shape[-1]
            soft = np.zeros((len(labels), rows, columns, classes), np.float32)
            if batch.soft is not None:
                soft[:] = batch.soft.transpose(0, 2, 3, 1) / np.float32(255)
            target["soft"] = soft
        return target

    def settle_norms(self, batches: Iterable[Batch]) -> None:
        """Take the averaged weights' BatchNorm statistics from ``batches`` alone."""
        models: dict[tuple[int, int], keras.Model] = {}
        for number, batch in enumerate(batches):
            size = batch.images.shape[1:3]
            if size not in models:
                models[size] = self._build(*size)
            model = models[size]
            model.set_weights(self._average)
            for layer in model.layers:
                layer.trainable = not is_frozen(layer.name, self._config)
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.momentum = number / (number + 1)  # the plain mean of all batches
                elif hasattr(layer, "rate"):
                    layer.rate = 0.0  # without dropout, as the network will run
            model(batch.images.astype(np.float32), training=True)
            self._average = [np.array(w, np.float32) for w in model.get_weights()]

    def predict(self, images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Classify with the averaged weights: RGB uint8 (N, H, W, 3) to uint8 (N, h, w).

        Args:
            images: of a size that the network takes.
            size: (h, w) of the answer, in pixels; logits are enlarged to it.
        """
        logits = self.averaged_model().predict_on_batch(images.astype(np.float32))
        full = keras.ops.image.resize(logits, size, antialias=False, data_format="channels_last")
        return np.asarray(keras.ops.convert_to_numpy(keras.ops.argmax(full, -1)), np.uint8)

    def averaged_model(self) -> keras.Model:
        """Return the Keras network of the run's size with the averaged weights."""
        self._model.set_weights(self._average)
        return self._model

    def save(self, path: Path, progress: dict[str, float] | None = None) -> None:
        """Write everything an exact resume needs, all or nothing.

        Raises:
            ModelError: the disk is full or the folder not writable.
        """
        trainee = self._trainee_at(self._trained or self._size)
        assert self._trained is not None
        assert self._live is not None
        arrays: dict[str, Any] = {
            "step": np.array([self.step_count, *self._trained]),
            "progress": np.array(json.dumps(progress)),
            **{f"weight{i:04d}": w for i, w in enumerate(self._live.get_weights())},
            **{f"average{i:04d}": w for i, w in enumerate(self._average)},
            **{f"extra{i:04d}": w for i, w in enumerate(self._auxiliary.get_weights())},
            **{
                f"optimiser{i:04d}": np.asarray(keras.ops.convert_to_numpy(v))
                for i, v in enumerate(trainee.optimizer.variables)
            },
            **{
                f"random{i:04d}": np.asarray(keras.ops.convert_to_numpy(v))
                for i, v in enumerate(random_states(self._live))
            },
        }
        data = io.BytesIO()
        np.savez(data, **arrays)
        write_whole(path, data.getvalue())

    def load(self, path: Path) -> dict[str, float] | None:
        """Continue from `save`; return its ``progress``, None in a file from before.

        Raises:
            ModelError: the file is damaged or of another network.
        """
        try:
            with np.load(path) as archive:
                groups: dict[str, list[NDArray[Any]]] = {}
                for key in sorted(archive.files):
                    groups.setdefault(key.rstrip("0123456789"), []).append(archive[key])
            step, *size = (int(v) for v in groups["step"][0])
            self._model.set_weights(groups["weight"])
            self._live = self._trainee = None
            trainee = self._trainee_at((size[0], size[-1]))  # older files have one side
            self._auxiliary.set_weights(groups.get("extra", []))
            for variable, value in zip(
                trainee.optimizer.variables, groups["optimiser"], strict=True
            ):
                variable.assign(value)
            if "random" in groups:  # older files lack it
                states = random_states(self._live)
                for variable, value in zip(states, groups["random"], strict=True):
                    variable.assign(value)
            self._average = [np.array(w, np.float32) for w in groups["average"]]
            self.step_count = step
            found = groups.get("progress")
            progress: dict[str, float] | None = json.loads(str(found[0])) if found else None
            return progress
        except Exception as error:
            raise ModelError(
                f"cannot resume from {path}: {str(error).splitlines()[0]}", reason="BAD_WEIGHTS"
            ) from error
