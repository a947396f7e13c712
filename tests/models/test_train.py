"""The loop around a trainer, with a trainer that only counts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import find_samples, read_image, read_label
from rtseg.calibration.errors import CalibrationError
from rtseg.engines.nearest import scale_nearest
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.models.config import Phase, SourceConfig, TrainConfig
from rtseg.models.errors import ModelError
from rtseg.models.quick_look import ValidationSet
from rtseg.models.stock import Batch
from rtseg.models.train import Run, check_folder
from tests.models.scenes import write_cityscapes

CONFIG = TrainConfig(
    "espnet-lite",
    (SourceConfig("city", 1),),
    size=64,
    phases=(Phase(0.5, 32, 2), Phase(1.0, 64, 2)),
    steps=6,
    validation=SourceConfig("city", 1, split="val"),
    validation_images=2,
    checkpoint_minutes=60,
)


def test_the_quick_look_sees_what_the_loop_would_see(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, "val", image_size=(1000, 500), label_size=(2000, 1000))
    looked = ValidationSet.load(SourceConfig(str(tmp_path), 1, split="val"), tmp_path, 2, (64, 96))
    samples = find_samples(tmp_path, "val")
    for sample, image, label in zip(samples[::2], looked.images, looked.labels, strict=True):
        assert np.array_equal(image, array_to_engine_input(read_image(sample.image), 64, 96))
        assert np.array_equal(label, scale_nearest(read_label(sample), 512, 1024))


class CountingTrainer:
    """Says road everywhere, remembers what it was given."""

    name = "counting"
    suffix = ".state"
    #: Whether its checkpoint says where the run was; those of older versions did not.
    remembers = True

    def __init__(self, loss: float = 1.0) -> None:
        self.step_count, self.loss = 0, loss
        self.rates: list[float] = []
        self.crops: list[int] = []
        self.settled: list[Batch] = []

    def train_step(self, batch: Batch, rate: float) -> float:
        if not np.isfinite(self.loss):
            raise ModelError("the loss became nan", reason="NAN_LOSS")
        self.rates.append(rate)
        self.crops.append(batch.images.shape[1])
        self.step_count += 1
        return self.loss

    def settle_norms(self, batches: Iterable[Batch]) -> None:
        self.settled = list(batches)

    def predict(self, images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.zeros((len(images), *size), np.uint8)

    def averaged_model(self) -> Any:
        class Model:
            def get_weights(self) -> list[NDArray[np.float32]]:
                return []

            def save_weights(self, path: Path) -> None:
                path.write_text("weights")

        return Model()

    def save(self, path: Path, progress: dict[str, float]) -> None:
        path.write_text(json.dumps([self.step_count, progress if self.remembers else None]))

    def load(self, path: Path) -> dict[str, float] | None:
        self.step_count, progress = json.loads(path.read_text())
        return progress


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    write_cityscapes(tmp_path / "city", "train")
    write_cityscapes(tmp_path / "city", "val", count=2, city="taka")
    return tmp_path


def make(
    data_root: Path, config: TrainConfig = CONFIG, folder: str = "run", loss: float = 1.0
) -> tuple[Run, CountingTrainer, list[str]]:
    lines: list[str] = []
    trainer = CountingTrainer(loss)
    run = Run(config, data_root / folder, data_root, lambda weights: trainer, say=lines.append)
    return run, trainer, lines


def test_a_run_follows_its_schedule(data_root: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=60)
    run, trainer, lines = make(data_root, config)
    run.train()
    assert trainer.step_count == 60
    assert trainer.rates == sorted(trainer.rates[:1]) + trainer.rates[1:]
    assert trainer.rates[-1] < CONFIG.rate_at(0.5, 1000)
    assert trainer.crops == 30 * [32] + 30 * [64]
    assert (run.folder / "average.weights.h5").read_text() == "weights"
    assert any("mIoU" in line for line in lines)
    records = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert "miou" in records[-1]


def test_a_run_may_see_wide_frames(data_root: Path) -> None:
    config = dataclasses.replace(CONFIG, size=(96, 64), phases=(Phase(1.0, (64, 32), 2),))
    run, trainer, lines = make(data_root, config)
    run.train()
    assert trainer.crops == CONFIG.steps * [32]
    assert run.validation is not None
    assert {image.shape for image in run.validation.images} == {(64, 96, 3)}
    assert any("mIoU" in line for line in lines)


def test_a_run_resumes_where_it_stopped(data_root: Path) -> None:
    short = dataclasses.replace(CONFIG, steps=6)
    run, _, _ = make(data_root, short)
    run.progress.step = 3
    run.trainer.step_count = 3
    run.checkpoint()
    again, trainer, lines = make(data_root, short)
    assert again.resume()
    assert "resumed at step 3" in lines
    again.train()
    assert trainer.step_count == 6
    assert len(trainer.rates) == 3


def test_the_checkpoint_itself_says_where_the_run_is(data_root: Path) -> None:
    """Found: a run that ended between its two files went on elsewhere than its weights."""
    run, _, _ = make(data_root)
    run.progress.step = run.trainer.step_count = 3
    run.checkpoint()
    run.checkpoint_path.with_suffix(".json").write_text(json.dumps({"step": 2}))
    again, _, lines = make(data_root)
    assert again.resume()
    assert "resumed at step 3" in lines


def test_a_checkpoint_from_before_has_its_place_beside_it(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingTrainer, "remembers", False)
    run, _, _ = make(data_root)
    run.progress.step = run.trainer.step_count = 3
    run.checkpoint()
    again, _, lines = make(data_root)
    assert again.resume()
    assert "resumed at step 3" in lines


def test_norms_settle_at_the_end_and_the_same_again(data_root: Path) -> None:
    config = dataclasses.replace(CONFIG, norm_batches=3)
    run, trainer, lines = make(data_root, config=config)
    run.train()
    assert [len(batch.images) for batch in trainer.settled] == [2, 2, 2]
    assert {batch.images.shape[1] for batch in trainer.settled} == {64}
    assert any("statistics of 3 batches" in line for line in lines)
    again, second, _ = make(data_root, config=config)
    assert again.resume()
    again.train()
    assert second.rates == []
    for batch, same in zip(trainer.settled, second.settled, strict=True):
        assert np.array_equal(batch.images, same.images)


@pytest.mark.parametrize("step", [1, 4, 5, 9])
def test_a_resumed_run_changes_phase_where_a_straight_one_does(data_root: Path, step: int) -> None:
    """Batches are drawn ahead: each goes by its own step, not by where the run is."""
    config = dataclasses.replace(CONFIG, steps=10)
    straight, trainer, _ = make(data_root, config)
    straight.train()
    assert trainer.crops == 5 * [32] + 5 * [64]
    run, _, _ = make(data_root, config, folder="resumed")
    run.progress.step, run.progress.sample, run.trainer.step_count = step, 2 * step, step
    run.checkpoint()
    again, resumed, _ = make(data_root, config, folder="resumed")
    assert again.resume()
    again.train()
    assert resumed.crops == trainer.crops[step:]


def test_a_fresh_folder_has_nothing_to_resume(data_root: Path) -> None:
    run, _, lines = make(data_root)
    assert not run.resume()
    assert lines[-1] == f"nothing to resume in {run.folder}: the run begins"


def test_a_checkpoint_of_another_trainer_is_not_passed_over(data_root: Path) -> None:
    """The run began anew beside it and wrote over its averaged weights."""
    run, _, _ = make(data_root)
    (run.folder / "checkpoint.pt").write_bytes(b"of torch")
    with pytest.raises(ModelError, match=r"checkpoint\.pt was written by the torch") as caught:
        run.resume()
    assert caught.value.reason == "BAD_CONFIG"
    assert "--trainer torch continues it. Received: counting" in str(caught.value)


def test_the_limit_is_part_of_the_run(data_root: Path) -> None:
    """A run on two images went on with all of them, and drew others."""
    config = dataclasses.replace(CONFIG, limit=2)
    run, _, _ = make(data_root, config)
    assert [len(items) for items in run.stock.items] == [2]
    assert json.loads((run.folder / "config.json").read_text())["limit"] == 2
    for other in (None, 1):
        with pytest.raises(ModelError, match="another configuration"):
            make(data_root, dataclasses.replace(CONFIG, limit=other))


def test_a_run_in_use_is_not_overwritten(data_root: Path) -> None:
    run, _, _ = make(data_root)
    run.checkpoint()
    with pytest.raises(ModelError, match="--resume continues it"):
        check_folder(run.folder, resume=False)
    check_folder(run.folder, resume=True)
    with pytest.raises(ModelError, match="another configuration") as caught:
        make(data_root, dataclasses.replace(CONFIG, steps=7))
    assert caught.value.reason == "BAD_CONFIG"


def test_a_lost_loss_keeps_the_checkpoint(data_root: Path) -> None:
    run, _, _ = make(data_root)
    run.checkpoint()
    before = sorted(p.name for p in run.folder.iterdir())
    broken, _, _ = make(data_root, loss=float("nan"))
    with pytest.raises(ModelError, match="became nan") as caught:
        broken.train()
    assert caught.value.reason == "NAN_LOSS"
    assert sorted(p.name for p in run.folder.iterdir()) == before


def test_an_unwritable_folder_is_one_line(data_root: Path) -> None:
    (data_root / "file").write_text("")
    with pytest.raises(ModelError, match="cannot write") as caught:
        make(data_root, folder="file/run")
    assert caught.value.reason == "PERMISSION_DENIED"


def test_missing_data_is_found_before_training(data_root: Path) -> None:
    config = dataclasses.replace(CONFIG, sources=(SourceConfig("absent", 1),))
    with pytest.raises(CalibrationError, match="no such data set folder"):
        make(data_root, config)
