"""The plain Keras trainer, on whichever backend Keras runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.models.config import Phase, SourceConfig, TrainConfig
from rtseg.models.errors import ModelError

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


def trainer() -> Any:
    from rtseg.models.keras_trainer import KerasTrainer

    return KerasTrainer(build, CONFIG, np.ones(19, np.float32))


def test_it_learns_and_resumes_exactly(tmp_path: Path) -> None:
    straight = trainer()
    losses = [straight.train_step(*data(), 1.0) for _ in range(12)]
    straight.save(tmp_path / "checkpoint.npz")
    losses += [straight.train_step(*data(), 1.0) for _ in range(3)]
    assert losses[-1] < 0.7 * losses[0]
    resumed = trainer()
    resumed.load(tmp_path / "checkpoint.npz")
    again = [resumed.train_step(*data(), 1.0) for _ in range(3)]
    assert again == pytest.approx(losses[12:], rel=1e-3)
    assert resumed.step_count == 15
    assert resumed.predict(np.zeros((1, 64, 64, 3), np.uint8), (20, 30)).shape == (1, 20, 30)


def test_another_crop_keeps_weights_and_state() -> None:
    run = trainer()
    run.train_step(*data(), 1.0)
    before = run._live.get_weights()
    run._trainee_at(64)
    for a, b in zip(before, run._live.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert int(run._trainee.optimizer.iterations) == 1


def test_the_encoder_takes_its_own_rate() -> None:
    from rtseg.models.keras_trainer import TwoRateAdamW

    moved = []
    for factor in (1.0, 0.1):
        variable = keras.Variable(np.ones(3, np.float32), name="stem")
        optimiser = TwoRateAdamW(0.1, weight_decay=0.0, encoder_factor=factor)
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
