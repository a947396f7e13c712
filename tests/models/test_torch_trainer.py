from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.engines.wholefile import partial_name
from rtseg.models.config import LossConfig, Phase, SourceConfig, TrainConfig
from rtseg.models.errors import ModelError
from rtseg.models.registry import build
from rtseg.models.stock import Batch

torch = pytest.importorskip("torch", reason="the accelerated trainer needs torch")
pytest.importorskip("keras", reason="needs the extra 'train'")

CONFIG = TrainConfig(
    "espnet-lite",
    (SourceConfig("none", 1),),
    size=64,
    phases=(Phase(1.0, 64, 2),),
    warmup=1,
    imagenet=False,
)


def data(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    labels = rng.integers(0, 19, (2, 64, 64), np.uint8)
    labels[:, :5] = 255
    return images, labels


def batch() -> Batch:
    return Batch(*data(), next_sample=2)


def trainer(config: TrainConfig = CONFIG) -> Any:
    from rtseg.models.torch_trainer import TorchTrainer

    return TorchTrainer(lambda h, w: build(config.network, h, w), config, np.ones(19, np.float32))


def test_a_seed_makes_a_run() -> None:
    config = dataclasses.replace(CONFIG, loss=LossConfig(auxiliary=0.4))
    one, same, other = (trainer(dataclasses.replace(config, seed=seed)) for seed in (3, 3, 4))

    def start(run: Any) -> list[Any]:
        return [*run._root.parameters(), *run._extra.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(start(one), start(same), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(start(one), start(other), strict=True))


def test_views_and_frames_may_be_wide(tmp_path: Path) -> None:
    """Through a checkpoint, too."""
    sources = (SourceConfig("none", 1, soft=True),)
    config = dataclasses.replace(
        CONFIG, sources=sources, size=(96, 64), phases=(Phase(1.0, (64, 32), 2),), distill=1.0,
        precision="float32",
    )  # fmt: skip
    images, labels = data()
    soft = np.full((2, 19, 8, 16), 13, np.uint8)
    wide = Batch(images[:, :32], labels[:, :32], 2, soft)
    run = trainer(config)
    run.train_step(wide, 1.0)
    run.save(tmp_path / "checkpoint.pt")
    expected = run.train_step(wide, 1.0)
    run.settle_norms([wide])
    assert run.predict(np.zeros((1, 64, 96, 3), np.uint8), (20, 30)).shape == (1, 20, 30)
    assert run.averaged_model().input_shape == (None, 64, 96, 3)
    resumed = trainer(config)
    resumed.load(tmp_path / "checkpoint.pt")
    assert resumed.train_step(wide, 1.0) == pytest.approx(expected, rel=1e-3)


def test_sgd_decays_beside_the_step_as_keras_does() -> None:
    import keras

    from rtseg.models.torch_trainer import DecoupledSGD

    start, rates = np.array([[4.0, -2.0]], np.float32), {"momentum": 0.9, "nesterov": True}
    mine = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimiser = DecoupledSGD([mine], lr=0.1, weight_decay=0.5, **rates)
    theirs = keras.Variable(start)
    reference = keras.optimizers.SGD(0.1, weight_decay=0.5, **rates)
    for gradient in ([[1.0, 2.0]], [[-1.0, 0.5]], [[0.0, 3.0]]):
        mine.grad = torch.tensor(gradient)
        optimiser.step()
        reference.apply([keras.ops.convert_to_tensor(gradient)], [theirs])
        assert mine.detach().numpy() == pytest.approx(np.asarray(theirs), rel=1e-5)
    assert optimiser.param_groups[0]["weight_decay"] == 0.5


def test_training_on_torch_leaves_tensorflow_alone() -> None:
    code = """
import sys
import numpy as np
from rtseg.models.config import Phase, SourceConfig, TrainConfig
from rtseg.models.registry import build
from rtseg.models.torch_trainer import TorchTrainer
config = TrainConfig("fast-scnn", (SourceConfig("none", 1),), size=64,
                     phases=(Phase(1.0, 64, 2),), imagenet=False)
TorchTrainer(lambda h, w: build(config.network, h, w), config, np.ones(19, np.float32))
print("tensorflow" in sys.modules)
"""
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["False"], done.stderr


@pytest.mark.parametrize("fast", [True, False])
def test_a_run_goes_on_in_the_arithmetic_that_it_began_with(
    fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtseg.models import torch_trainer

    def began_with(kind: bool) -> Any:
        monkeypatch.setattr(torch_trainer, "computes_bfloat16_fast", lambda *_: kind)
        return trainer()

    run = began_with(fast)
    run.train_step(batch(), 1.0)
    run.save(tmp_path / "checkpoint.pt")
    losses = []
    for machine in (fast, not fast):
        resumed = began_with(machine)
        resumed.load(tmp_path / "checkpoint.pt")
        losses.append(resumed.train_step(batch(), 1.0))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("slow", [True, False])
def test_the_quicker_arithmetic_is_found_by_trying(
    slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is slower on this machine: here one of them takes a second."""
    from rtseg.models import torch_trainer
    from rtseg.models.torch_twin import TorchTwin

    class Waiting(TorchTwin):
        def forward(self, frames: Any) -> Any:
            if torch.is_autocast_enabled("cpu") == slow:
                clock_s[0] += 1.0
            return super().forward(frames)

    clock_s = [0.0]
    monkeypatch.setattr(torch_trainer.time, "perf_counter", lambda: clock_s[0])
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    twin = Waiting(build("espnet-lite", 64, 64))
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    found = torch_trainer.computes_bfloat16_fast(torch.device("cpu"), twin, (64, 64), 2)
    assert found is not slow
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("name", ["espnet-lite", "espnet-s0"])
def test_the_twin_computes_what_keras_computes(name: str) -> None:
    from rtseg.models.torch_twin import TorchTwin

    model = build(name, 64, 96)
    twin = TorchTwin(model).eval()
    x = np.random.default_rng(0).uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    with torch.no_grad():
        ours = twin(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    theirs = np.asarray(model.predict(x, verbose=0)).transpose(0, 3, 1, 2)
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_weights_survive_the_way_there_and_back() -> None:
    from rtseg.models.torch_twin import TorchTwin

    model = build("espnet-s0", 32, 32)
    before = [w.copy() for w in model.get_weights()]
    twin = TorchTwin(model)
    other = build("espnet-s0", 64, 64)
    twin.copy_to(other)
    for a, b in zip(before, other.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (5, 1, 1), (3, 2, 1), (5, 2, 1), (3, 1, 2)]
)
def test_the_depthwise_gradient_is_right(kernel: int, stride: int, dilation: int) -> None:
    from rtseg.models.torch_twin import _Depthwise

    torch.manual_seed(0)
    x = torch.randn(2, 8, 12, 12, requires_grad=True)
    weight = torch.randn(8, 1, kernel, kernel, requires_grad=True)
    padding = dilation * (kernel // 2)
    grads = []
    for run in (
        lambda: _Depthwise.apply(x, weight, stride, padding, dilation),
        lambda: torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, 8),
    ):
        y = run()
        grads.append((y, *torch.autograd.grad((y * y).sum(), (x, weight))))
    for ours, theirs in zip(*grads, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_all_phases_together_are_the_full_size_loss() -> None:
    from rtseg.models.torch_losses import phase_loss

    torch.manual_seed(1)
    logits = torch.randn(2, 19, 6, 7)
    labels = torch.randint(0, 19, (2, 24, 28))
    ones = torch.ones(19)
    phases = [
        phase_loss(logits, labels, phase, ones) for phase in itertools.product(range(4), repeat=2)
    ]
    full = torch.nn.functional.interpolate(logits, (24, 28), mode="bilinear", align_corners=False)
    expected = torch.nn.functional.cross_entropy(full, labels)
    assert torch.stack(phases).mean() == pytest.approx(float(expected), rel=1e-4)


def test_void_pixels_teach_nothing() -> None:
    from rtseg.models.torch_losses import phase_loss

    logits = torch.randn(1, 19, 4, 4, requires_grad=True)
    labels = torch.full((1, 16, 16), 255)
    labels[0, 0, 0] = 3
    phase_loss(logits, labels, (0, 0), torch.ones(19)).backward()
    assert logits.grad is not None
    assert logits.grad[0, :, 0, 0].abs().sum() > 0
    assert logits.grad[0, :, 2:, 2:].abs().sum() == 0


def test_it_learns_and_resumes_exactly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    straight = trainer()
    losses = [straight.train_step(batch(), 1.0) for _ in range(2)]
    straight.save(tmp_path / "checkpoint.pt")
    losses += [straight.train_step(batch(), 1.0) for _ in range(2)]
    assert losses[-1] < losses[0]
    resumed = trainer()
    resumed.load(tmp_path / "checkpoint.pt")
    assert resumed.step_count == 2
    again = [resumed.train_step(batch(), 1.0) for _ in range(2)]
    assert again == pytest.approx(losses[2:], rel=1e-3)
    a, b = straight.averaged_model(), resumed.averaged_model()
    for left, right in zip(a.get_weights(), b.get_weights(), strict=True):
        assert np.allclose(left, right, rtol=1e-2, atol=1e-3)
    labels = resumed.predict(data()[0], (32, 32))
    assert labels.shape == (2, 32, 32)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    run = trainer()
    images, labels = data()
    run._weights[:] = float("nan")
    before = [w.copy() for w in run.averaged_model().get_weights()]
    with pytest.raises(ModelError, match="the loss became nan at step 0") as caught:
        run.train_step(Batch(images, labels, 0), 1.0)
    assert caught.value.reason == "NAN_LOSS"
    for a, b in zip(before, run.averaged_model().get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_a_batch_without_labels_teaches_nothing_and_ends_nothing() -> None:
    run = trainer()
    images, labels = data()
    labels[:] = 255
    assert run.train_step(Batch(images, labels, 0), 1.0) == 0.0
    weights = run.averaged_model().get_weights()
    assert all(np.isfinite(w).all() for w in weights)


def test_checkpoints_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    run = trainer()
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot write") as caught:
        run.save(tmp_path / "file" / "checkpoint.pt")
    assert caught.value.reason == "PERMISSION_DENIED"
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(ModelError, match="cannot resume from") as caught:
        run.load(tmp_path / "checkpoint.pt")
    assert caught.value.reason == "BAD_WEIGHTS"


class _Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    run, path = trainer(), tmp_path / "checkpoint.pt"
    run.save(path)
    state = torch.load(path, weights_only=True)
    torch.save({**state, "step": _Runs(tmp_path / "made")}, path)
    with pytest.raises(ModelError, match="cannot resume from") as caught:
        run.load(path)
    assert caught.value.reason == "BAD_WEIGHTS"
    assert not (tmp_path / "made").exists()


def test_older_checkpoints_resume(tmp_path: Path) -> None:
    """They lack what came later: how far the run is, and what it computes in."""
    run, path = trainer(), tmp_path / "checkpoint.pt"
    run.train_step(batch(), 1.0)
    run.save(path)
    state = torch.load(path, weights_only=True)
    del state["progress"], state["bfloat16"]
    torch.save(state, path)
    again = trainer()
    assert again.load(path) is None
    assert again.step_count == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    run = trainer()
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"the one before")
    partial_name(tmp_path / "checkpoint.pt").symlink_to("/dev/full")
    with pytest.raises(ModelError, match="Allowed: a folder with more space") as caught:
        run.save(path)
    assert caught.value.reason == "NO_SPACE"
    assert path.read_bytes() == b"the one before"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    "change",
    [
        {"loss": LossConfig(hardest=0.5, boundary=1.0)},
        {"loss": LossConfig(dice=0.5, lovasz=0.5)},
        {"loss": LossConfig(auxiliary=0.4)},
        {"optimiser": "sgd", "schedule": "cosine"},
        {"precision": "float32"},
    ],
    ids=str,
)
def test_every_choice_of_the_configuration_learns_and_resumes(
    change: dict[str, Any], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, encoder_rate=2e-3, head_rate=5e-3, **change)
    run = trainer(config)
    losses = [run.train_step(batch(), 1.0) for _ in range(6)]
    assert min(losses[-2:]) < losses[0]
    run.save(tmp_path / "checkpoint.pt")
    expected = run.train_step(batch(), 1.0)
    again = trainer(config)
    again.load(tmp_path / "checkpoint.pt")  # with the random numbers that dropout saw, too
    assert again.train_step(batch(), 1.0) == pytest.approx(expected, rel=1e-3)


# Logits at strides 4, 8 and 1.
@pytest.mark.parametrize("network", ["espnet-lite", "fast-scnn", "separable-unet"])
def test_a_teacher_adds_its_loss(network: str) -> None:
    sources = (SourceConfig("none", 1, soft=True),)
    config = dataclasses.replace(CONFIG, network=network, distill=1.0, sources=sources)
    soft = np.full((2, 19, 16, 16), 13, np.uint8)
    plain, taught = trainer(config), trainer(config)
    images, labels = data()
    alone = plain.train_step(Batch(images, labels, 2), 0.0)
    both = taught.train_step(Batch(images, labels, 2, soft), 0.0)
    # Uniform chances cost at least their own entropy.
    assert both - alone > 13 / 255 * 19 * np.log(19) * 0.9


def test_frozen_layers_stay() -> None:
    run = trainer(dataclasses.replace(CONFIG, freeze=("stem", "block1")))

    def weights(prefix: str) -> list[Any]:
        layers = run._root.modules_by_layer.items()
        return [
            value.clone()
            for name, module in layers
            if name.startswith(prefix)
            for value in module.state_dict().values()
        ]

    before = {prefix: weights(prefix) for prefix in ("stem", "block1_", "block10_", "block0_")}
    run.train_step(batch(), 1.0)
    for prefix, old in before.items():
        same = all(torch.equal(a, b) for a, b in zip(old, weights(prefix), strict=True))
        assert same == (prefix in ("stem", "block1_")), prefix
    with pytest.raises(ModelError, match="freeze 'block77'"):
        trainer(dataclasses.replace(CONFIG, freeze=("block77",)))


def test_norms_settle_as_with_keras() -> None:
    """Same means from both trainers; frozen norms and all other weights stay."""
    from rtseg.models.keras_trainer import KerasTrainer

    config = dataclasses.replace(CONFIG, precision="float32", freeze=("stem", "block0"))
    run = trainer(config)
    for _ in range(3):
        run.train_step(batch(), 1.0)
    model = run.averaged_model()
    before = {weight.path: np.array(weight) for weight in model.weights}
    other = KerasTrainer(
        lambda h, w: build("espnet-lite", h, w),
        config,
        np.ones(19, np.float32),
        lambda twin: twin.set_weights(model.get_weights()),
    )
    batches = [batch(), Batch(*data(1), next_sample=4)]
    run.settle_norms(batches)
    other.settle_norms(batches)
    moved = 0
    for weight, twin in zip(
        run.averaged_model().weights, other.averaged_model().weights, strict=True
    ):
        now, old = np.array(weight), before[weight.path]
        if "moving" not in weight.path or weight.path.startswith(config.freeze):
            assert np.array_equal(now, old), weight.path
        elif weight.path.endswith("moving_mean"):
            assert np.allclose(now, np.array(twin), rtol=1e-3, atol=2e-3), weight.path
            moved += not np.array_equal(now, old)
    assert moved > 40
