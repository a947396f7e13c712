"""The plain Keras trainer, on whichever backend Keras runs here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.models.config import LossConfig, Phase, SourceConfig, TrainConfig
from rtseg.models.errors import ModelError
from rtseg.models.stock import Batch

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

CONFIG = TrainConfig(
    "tiny",
    (SourceConfig("none", 1),),
    size=64,
    phases=(Phase(1.0, 32, 2),),
    encoder_rate=0.01,
    head_rate=0.05,
)


def build(height: int, width: int) -> Any:
    """A network small enough to compile in a second."""
    from rtseg.models.layers import conv_bn, frames_input, normalise

    frames = frames_input(height, width)
    x = conv_bn(normalise(frames, (127.0,) * 3, (128.0,) * 3), 8, "stem", kernel=3, stride=4)
    return keras.Model(frames, keras.layers.Conv2D(19, 1, name="logits")(x), name="tiny")


def data() -> tuple[Any, Any]:
    labels = np.zeros((2, 32, 32), np.uint8)
    labels[:, :16] = 10
    labels[:, :2] = 255
    images = np.where(labels[..., None] == 10, 230, 20).astype(np.uint8).repeat(3, -1)
    return images, labels


def batch() -> Batch:
    return Batch(*data(), next_sample=2)


def build_dropping(height: int, width: int) -> Any:
    """The same with dropout before the last layer."""
    from rtseg.models.layers import conv_bn, frames_input, normalise

    frames = frames_input(height, width)
    x = conv_bn(normalise(frames, (127.0,) * 3, (128.0,) * 3), 8, "stem", kernel=3, stride=4)
    x = keras.layers.SpatialDropout2D(0.5, name="dropout")(x)
    return keras.Model(frames, keras.layers.Conv2D(19, 1, name="logits")(x), name="dropping")


def trainer(config: TrainConfig = CONFIG, make: Callable[[int, int], Any] = build) -> Any:
    from rtseg.models.keras_trainer import KerasTrainer

    return KerasTrainer(make, config, np.ones(19, np.float32))


def test_it_learns_and_resumes_exactly(tmp_path: Path) -> None:
    straight = trainer()
    losses = [straight.train_step(batch(), 1.0) for _ in range(12)]
    straight.save(tmp_path / "checkpoint.npz")
    losses += [straight.train_step(batch(), 1.0) for _ in range(3)]
    assert losses[-1] < 0.7 * losses[0]
    resumed = trainer()
    resumed.load(tmp_path / "checkpoint.npz")
    again = [resumed.train_step(batch(), 1.0) for _ in range(3)]
    assert again == pytest.approx(losses[12:], rel=1e-3)
    assert resumed.step_count == 15
    assert resumed.predict(np.zeros((1, 64, 64, 3), np.uint8), (20, 30)).shape == (1, 20, 30)


def test_views_and_frames_may_be_wide(tmp_path: Path) -> None:
    """Through a checkpoint, too."""
    sources = (SourceConfig("none", 1, soft=True),)
    config = dataclasses.replace(
        CONFIG, sources=sources, size=(96, 64), phases=(Phase(1.0, (64, 32), 2),), distill=1.0
    )
    images, labels = (array.repeat(2, 2) for array in data())
    soft = np.full((2, 19, 8, 16), 13, np.uint8)
    wide = Batch(images, labels, 2, soft)
    run = trainer(config)
    run.train_step(wide, 1.0)
    run.save(tmp_path / "checkpoint.npz")
    expected = run.train_step(wide, 1.0)
    run.settle_norms([wide])
    assert run.predict(np.zeros((1, 64, 96, 3), np.uint8), (20, 30)).shape == (1, 20, 30)
    assert run.averaged_model().input_shape == (None, 64, 96, 3)
    resumed = trainer(config)
    resumed.load(tmp_path / "checkpoint.npz")
    assert resumed.train_step(wide, 1.0) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_weights_decay_at_their_own_rate(optimiser: str) -> None:
    """Found: an encoder that was to stay shrank with the head."""
    config = dataclasses.replace(
        CONFIG, encoder_rate=0.0, weight_decay=0.5, optimiser=optimiser, clip=1e-9
    )
    run = trainer(config)
    before = {w.path: keras.ops.convert_to_numpy(w) for w in run._model.trainable_variables}
    run.train_step(batch(), 1.0)
    after = {w.path: keras.ops.convert_to_numpy(w) for w in run._live.trainable_variables}
    assert np.array_equal(before["stem/kernel"], after["stem/kernel"])
    shrunk = before["logits/kernel"] * (1 - 0.05 * 0.5)
    moved = 0.06 if optimiser == "adamw" else 1e-6  # Adam's step is as long for any gradient
    assert np.allclose(after["logits/kernel"], shrunk, atol=moved)


@pytest.mark.parametrize("last", [32, 64])
def test_a_run_with_dropout_resumes_exactly(tmp_path: Path, last: int) -> None:
    """In one phase, and over a change of phase. Found: dropout drew other numbers."""
    images, labels = data()
    more = last // 32
    final = Batch(images.repeat(more, 1).repeat(more, 2), labels.repeat(more, 1).repeat(more, 2), 6)
    straight = trainer(make=build_dropping)
    for _ in range(2):
        straight.train_step(batch(), 1.0)
    path = tmp_path / "checkpoint.npz"
    straight.save(path)
    straight.train_step(final, 1.0)

    def distance(file: Path) -> float:
        resumed = trainer(make=build_dropping)
        resumed.load(file)
        resumed.train_step(final, 1.0)
        pairs = zip(straight._live.get_weights(), resumed._live.get_weights(), strict=True)
        return max(float(np.abs(a - b).max()) for a, b in pairs)

    assert distance(path) < 1e-4
    # Files of before are still read, without the random numbers' state.
    with np.load(path) as archive:
        kept = {key: archive[key] for key in archive.files if not key.startswith("random")}
        assert len(kept) < len(archive.files)
    np.savez(tmp_path / "older.npz", **kept)
    distance(tmp_path / "older.npz")


def test_another_crop_keeps_weights_and_state() -> None:
    run = trainer()
    run.train_step(batch(), 1.0)
    before = run._live.get_weights()
    run._trainee_at((64, 64))
    for a, b in zip(before, run._live.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert int(run._trainee.optimizer.iterations) == 1


@pytest.mark.parametrize("name", ["TwoRateAdamW", "TwoRateSGD"])
def test_the_encoder_takes_its_own_rate(name: str) -> None:
    from rtseg.models import keras_trainer

    moved = []
    for factor in (1.0, 0.1):
        variable = keras.Variable(np.ones(3, np.float32), name="stem")
        optimiser = getattr(keras_trainer, name)(0.1, weight_decay=0.0, encoder_factor=factor)
        optimiser.build([variable])
        optimiser.update_step(
            keras.ops.ones(3), variable, keras.ops.convert_to_tensor(0.1, "float32")
        )
        moved.append(1.0 - float(np.asarray(variable)[0]))
    assert moved[1] == pytest.approx(0.1 * moved[0], rel=1e-3)


def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"half")
    with pytest.raises(ModelError, match="cannot resume from") as caught:
        trainer().load(path)
    assert caught.value.reason == "BAD_WEIGHTS"


@pytest.mark.parametrize(
    "change",
    [
        {"loss": LossConfig(hardest=0.5, boundary=1.0)},
        {"loss": LossConfig(dice=0.5, lovasz=0.5)},
        {"loss": LossConfig(auxiliary=0.4, auxiliary_at="stem_act")},
        {"optimiser": "sgd", "schedule": "cosine"},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_every_choice_of_the_configuration_learns(change: dict[str, Any]) -> None:
    run = trainer(dataclasses.replace(CONFIG, **change))
    losses = [run.train_step(batch(), 1.0) for _ in range(12)]
    assert losses[-1] < 0.85 * losses[0]
    assert run.averaged_model().layers[-1].name == "logits"


def test_a_teacher_is_learnt_from(tmp_path: Path) -> None:
    """With nothing labelled but one pixel, the classes come from the teacher alone."""
    config = dataclasses.replace(CONFIG, distill=1.0, sources=(SourceConfig("none", 1, soft=True),))
    run = trainer(config)
    images, labels = data()
    soft = np.zeros((2, 19, 8, 8), np.uint8)
    soft[:, 10, :4] = 255
    soft[:, 0, 4:] = 255
    unknown = np.full_like(labels, 255)
    unknown[:, 0, 0] = 10
    for _ in range(60):
        run.train_step(Batch(images, unknown, 2, soft), 1.0)
    trained = run._live(images.astype(np.float32))
    guess = np.asarray(keras.ops.convert_to_numpy(trained)).argmax(-1)
    assert (guess[:, :3] == 10).mean() > 0.9
    assert (guess[:, 5:] == 0).mean() > 0.9


def test_frozen_layers_stay() -> None:
    run = trainer(dataclasses.replace(CONFIG, freeze=("stem",)))
    before = [keras.ops.convert_to_numpy(w) for w in run._model.get_layer("stem").get_weights()]
    other = np.array(run._model.get_layer("logits").get_weights()[0])
    for _ in range(3):
        run.train_step(batch(), 1.0)
    model = run.averaged_model()
    for a, b in zip(before, model.get_layer("stem").get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(other, model.get_layer("logits").get_weights()[0])
    with pytest.raises(ModelError, match="freeze 'block77'"):
        trainer(dataclasses.replace(CONFIG, freeze=("block77",)))


def test_a_layer_that_is_not_there() -> None:
    run = trainer(dataclasses.replace(CONFIG, loss=LossConfig(auxiliary=1, auxiliary_at="nowhere")))
    with pytest.raises(ModelError, match="no layer 'nowhere'"):
        run.train_step(batch(), 1.0)


def test_norms_settle_on_the_averaged_weights() -> None:
    """The mean over batches of what the layer before gives, and nothing else changes."""
    run = trainer()
    for _ in range(3):
        run.train_step(batch(), 1.0)
    before = [np.array(w) for w in run.averaged_model().get_weights()]
    images, labels = data()
    others = Batch(255 - images, labels, 4)
    run.settle_norms([batch(), others])
    model = run.averaged_model()
    norm = model.get_layer("stem_bn")
    small = build(32, 32)
    small.set_weights(model.get_weights())
    seen = keras.Model(small.inputs, small.get_layer("stem_bn").input)
    maps = [
        np.asarray(keras.ops.convert_to_numpy(seen(part.astype(np.float32))))
        for part in (images, others.images)
    ]
    mean = np.mean([each.mean((0, 1, 2)) for each in maps], axis=0)
    variance = np.mean([each.var((0, 1, 2)) for each in maps], axis=0)
    assert np.allclose(norm.get_weights()[2], mean, atol=1e-3)
    assert np.allclose(norm.get_weights()[3], variance, rtol=0.02, atol=1e-4)
    changed = [
        weight.path
        for weight, old in zip(model.weights, before, strict=True)
        if not np.array_equal(np.asarray(keras.ops.convert_to_numpy(weight)), old)
    ]
    assert len(changed) == 2
    assert all("moving" in path for path in changed)


def test_frozen_norms_do_not_settle() -> None:
    run = trainer(dataclasses.replace(CONFIG, freeze=("stem",)))
    run.train_step(batch(), 1.0)
    before = run.averaged_model().get_layer("stem_bn").get_weights()
    run.settle_norms([batch()])
    after = run.averaged_model().get_layer("stem_bn").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
