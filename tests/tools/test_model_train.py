"""``rt-seg-model train`` and ``lr-find``: options, TensorBoard, several devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.tools.rt_seg_model import main
from tests.models.scenes import write_cityscapes

pytest.importorskip("keras", reason="needs the extra 'train'")

RUN = {
    "network": "espnet-lite",
    "size": 64,
    "sources": [{"root": "city", "share": 1}, {"root": "town", "share": 1}],
    "phases": [{"until": 1.0, "crop": 32, "batch": 2}],
    "steps": 2,
    "imagenet": False,
    "validation": {"root": "city", "share": 1},
    "validation_images": 1,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_cityscapes(tmp_path / "city", "train")
    write_cityscapes(tmp_path / "town", "train", count=1)
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    return tmp_path


def test_options_change_the_run_and_are_kept_with_it(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data / "out"
    arguments = ["train", str(data / "run.json"), "--data", str(data), "--out", str(out)]
    arguments += ["--without", "town", "--set", "seed=3", "--set", 'loss={"dice": 0.5}']
    arguments += ["--set", "optimiser=sgd", "--steps", "1", "--tensorboard"]
    assert main(arguments) == 0
    kept = json.loads((out / "config.json").read_text())
    assert [source["root"] for source in kept["sources"]] == ["city"]
    assert (kept["seed"], kept["loss"]["dice"], kept["optimiser"]) == (3, 0.5, "sgd")
    assert kept["steps"] == 1
    printed = capsys.readouterr().out
    assert "town" not in printed
    assert "mIoU" in printed

    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the extra 'train'",
    ).EventAccumulator(str(out / "tensorboard"))
    accumulator.Reload()
    scalars = accumulator.Tags()["scalars"]
    assert {"train/loss", "train/rate", "validation/miou", "class_iou/road"} <= set(scalars)
    [event] = accumulator.Scalars("train/loss")
    assert event.step == 1
    assert event.value > 0
    # The same options go on; others are another run.
    assert main([*arguments, "--resume"]) == 0
    assert main([*arguments, "--resume", "--set", "seed=4"]) == 2


def test_the_limit_is_kept_with_the_run(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "out"
    rest = ["--data", str(data), "--out", str(out), "--set", "network=fast-scnn"]
    arguments = ["train", str(data / "run.json"), *rest, "--steps", "1"]
    assert main([*arguments, "--limit", "2"]) == 0
    assert main([*arguments, "--resume"]) == 2
    assert "another configuration" in capsys.readouterr().err
    # Its own configuration goes on with it.
    assert main(["train", str(out / "config.json"), "--resume", *rest]) == 0
    assert "city: 2 images" in capsys.readouterr().out


def test_a_run_goes_on_from_its_own_configuration_with_the_same_roots(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "elsewhere").symlink_to(data / "city")
    rest = ["--data", str(data), "--out", str(data / "out"), "--steps", "1"]
    rest += ["--root", f"city={data / 'elsewhere'}"]
    assert main(["train", str(data / "run.json"), *rest, "--set", "network=fast-scnn"]) == 0
    assert main(["train", str(data / "out" / "config.json"), "--resume", *rest]) == 0
    assert main(["train", str(data / "out" / "config.json"), *rest, "--root", f"moon={data}"]) == 2
    assert "expected NAME=DIR" in capsys.readouterr().err


def test_a_run_of_the_other_trainer_is_not_begun_anew(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="the accelerated trainer needs torch")
    out = data / "out"
    arguments = ["train", str(data / "run.json"), "--data", str(data), "--out", str(out)]
    arguments += ["--set", "network=fast-scnn", "--steps", "1", "--resume"]
    assert main([*arguments, "--trainer", "keras"]) == 0  # where a plan may have stopped early
    assert "nothing to resume" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main([*arguments, "--trainer", "torch"]) == 2
    assert "was written by the keras trainer; --trainer keras" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert main([*arguments, "--trainer", "keras"]) == 0


def test_what_is_asked_for_together_is_judged_together(data: Path) -> None:
    """Without the data set that teaches, and without teaching."""
    soft = {"root": "town", "share": 1, "soft": True}
    taught = RUN | {"sources": [{"root": "city", "share": 1}, soft], "distill": 1.0}
    (data / "taught.json").write_text(json.dumps(taught))
    arguments = ["train", str(data / "taught.json"), "--data", str(data), "--steps", "1"]
    arguments += ["--out", str(data / "out"), "--without", "town"]
    assert main(arguments) == 2
    assert main([*arguments, "--set", "distill=0"]) == 0


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--without", "moon"], "the configuration has no such data set. Allowed: city, town"),
        (["--set", "sed=3"], "unknown option 'sed'"),
        (["--set", "seed"], "expected OPTION=JSON"),
        (["--set", "optimiser=adagrad"], "unknown optimiser 'adagrad'; allowed: adamw, sgd"),
        (["--set", 'loss={"dice": -1}'], "dice -1"),
        (["--set", "distill=1"], "at least one source marked soft"),
        (["--network", "vgg"], "vgg"),
        (["--without", "city", "--without", "town"], "no data source"),
        (["--devices", "2", "--trainer", "torch"], "--devices needs --trainer keras"),
        (["--set", "weight_cap=0.5"], "weight_cap 0.5; allowed: 1 (no weights) or more"),
        (
            ["--set", 'validation={"root": "city", "share": 1, "kind": "camvid"}'],
            "validation of kind camvid; allowed: cityscapes",
        ),
        (["--set", "seed=-1"], "seed -1; allowed: 0 to 4294967295"),
        (["--set", 'augment={"scale": [2, 1]}'], "scale (2, 1); allowed: two numbers above 0"),
    ],
)
def test_what_is_wrong_is_said(
    extra: list[str], words: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(data / "run.json"), "--data", str(data), "--out", str(data / "out")]
    assert main([*arguments, *extra]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_what_can_be_known_is_said_before_data_are_read(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [str(data / "run.json"), "--data", str(data)]
    out = ["--out", str(data / "out")]
    for arguments, code, words in (
        (["train", *run, *out, "--network", "vgg"], 2, "unknown network 'vgg'"),
        (["train", *run, *out, "--start", "none.weights.h5"], 1, "no such weights file"),
        (["lr-find", *run, "--out", str(data / "rates.xyz")], 2, "allowed: .png, .svg, .pdf"),
        (["lr-find", *run, "--out", str(data / "no" / "rates.png")], 1, "no such folder"),
        (["lr-find", *run, "--steps", "3"], 2, "at least 5 steps"),
    ):
        assert main(arguments) == code
        printed = capsys.readouterr()
        assert words in printed.err
        assert "images" not in printed.out


def test_a_root_moves_the_validation_set_of_its_name(data: Path) -> None:
    (data / "moved").mkdir()
    (data / "city").rename(data / "moved" / "city")
    arguments = ["train", str(data / "run.json"), "--data", str(data), "--steps", "1"]
    arguments += ["--out", str(data / "out"), "--root", f"city={data / 'moved' / 'city'}"]
    assert main(arguments) == 0


def test_lr_find_draws_a_plot(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = data / "rates.svg"
    arguments = ["lr-find", str(data / "run.json"), "--data", str(data), "--out", str(plot)]
    assert main([*arguments, "--steps", "6", "--high", "1"]) == 0
    assert plot.read_text().lstrip().startswith("<?xml")
    printed = capsys.readouterr().out
    assert printed.count("rate ") >= 6
    assert "suggested: " in printed


def test_batches_are_spread_over_devices(data: Path) -> None:
    pytest.importorskip("jax", reason="several devices need jax")
    out = data / "out"
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    code = (
        "import sys, keras; from rtseg.tools.rt_seg_model import main; code = main(sys.argv[1:]); "
        "found = keras.distribution.distribution(); "
        "print('devices', found and found.device_mesh.shape); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "train", str(data / "run.json"), "--data", str(data)]

    def run(*extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *extra], capture_output=True, text=True, env=environment, timeout=600
        )

    done = run("--out", str(out), "--devices", "2", "--set", "network=fast-scnn")
    assert done.returncode == 0, done.stderr
    assert "devices (2,)" in done.stdout
    assert (out / "average.weights.h5").exists()
    many = run("--out", str(data / "many"), "--devices", "3", "--set", "network=fast-scnn")
    assert many.returncode == 2
    assert "3 devices asked for. Allowed: 1 to 2" in many.stderr
