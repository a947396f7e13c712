"""``rt-seg-engine build``, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from rtseg.calibration.calibration_set import read_frame
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.preprocess import to_engine_input
from rtseg.engines.registry import open_engine
from rtseg.engines.wholefile import partial_name
from rtseg.tools.rt_seg_engine import main
from tests.calibration.nets import CLASSES, SIZE, save_images, save_network
from tests.engines.networks import TinyNet


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return save_network(tmp_path / "tiny-32x32-fp32.onnx", classes=len(CITYSCAPES))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_images(tmp_path / "images")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A validation split of Cityscapes' layout, with labels of another size."""
    root = tmp_path / "labelled"
    save_images(root / "leftImg8bit" / "val" / "ulm", 3)
    folder = root / "gtFine" / "val" / "ulm"
    folder.mkdir(parents=True)
    for number, image in enumerate(sorted(root.rglob("street_*.png"))):
        image.rename(image.with_name(f"ulm_000000_{number:06d}_leftImg8bit.png"))
        label = np.random.default_rng(number).integers(0, CLASSES, (64, 64), np.uint8)
        name = f"ulm_000000_{number:06d}_gtFine_labelTrainIds.png"
        assert cv2.imwrite(str(folder / name), label)
    return root


def test_builds_verifies_and_says_so(
    network: Path, images: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8.onnx"
    arguments = ["build", str(network), "-o", str(out), "--calib-data", str(images)]
    cache = tmp_path / "calib.json"
    arguments += ["--calib-cache", str(cache), "--verify", str(labelled), "--keep-fp16", "stem"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    for part in ("written", "mse, 6 of 6 images", "stem (asked for)", "mIoU", "INT8"):
        assert part in shown.out
    assert "INT8 - FP32: " in shown.out.splitlines()[-1]
    assert "observe (6)" in shown.err
    assert "warning: 512 images were asked for, there are 6: calibrated on all" in shown.err
    assert cache.exists()
    with open_engine(out, backend="openvino") as engine:
        assert engine.spec.precision == engine.profile().precision == "int8"
        assert engine.infer(np.zeros((1, SIZE, SIZE, 3), np.uint8)).shape == (1, SIZE, SIZE)

    assert main([*arguments, "--force", "--json"]) == 0
    shown = capsys.readouterr()
    record = json.loads(shown.out)
    assert shown.err == ""
    assert record["cache"] == "used"
    assert record["int8_convolutions"] == 8
    assert record["verify"]["images"] == 3
    assert record["verify"]["fp32"]["agreement_with_fp32"] == 1.0
    assert record["verify"]["int8"]["agreement_with_fp32"] > 0.9


def test_default_name_is_beside_the_user(
    network: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(["build", str(network), "--calib-data", str(images), "-q"]) == 0
    assert [path.name for path in folder.iterdir()] == ["tiny-32x32-int8.onnx"]


def test_an_existing_file_is_kept(
    network: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8.onnx"
    out.write_bytes(b"mine")
    assert main(["build", str(network), "-o", str(out), "--calib-data", str(images)]) == 2
    assert "exists; --force replaces it" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    whole = network.read_bytes()
    same = ["build", str(network), "-o", str(network), "--calib-data", str(images), "--force"]
    assert main(same) == 2
    assert "is the network itself" in capsys.readouterr().err
    assert network.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"--calib-data": "absent"}, "NOT_FOUND: no such calibration data: absent"),
        ({"--verify": "absent"}, "NOT_FOUND: no such data set folder: absent"),
        ({"--keep-fp16": "nothing"}, "BAD_OPTION: no convolution is called 'nothing'"),
        (
            {"--calib-method": "percentile", "--calib-percentile": "0"},
            "BAD_OPTION: a percentile is over 0",
        ),
        ({"file": "absent.onnx"}, "NOT_FOUND: no such network: absent.onnx"),
    ],
)
def test_failures_are_one_line(
    network: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    line: str,
) -> None:
    options = {"--calib-data": str(images), "--out": str(tmp_path / "o.onnx"), **change}
    file = options.pop("file", str(network))
    arguments = [part for pair in options.items() for part in pair]
    code = main(["build", file, "-q", *arguments])
    assert code == (2 if line.startswith("BAD_OPTION") else 1)
    shown = capsys.readouterr().err
    assert line in shown
    assert len(shown.strip().splitlines()) == 1
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--calib-images", "0"],
        ["--calib-images", "-3"],
        ["--calib-method", "kl"],
        ["--calib-seed", "-1"],
    ],
)
def test_wrong_usage_exits_2(network: Path, arguments: list[str]) -> None:
    assert main(["build", str(network), "--calib-data", ".", *arguments]) == 2


def test_int8_asks_for_images(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(network)]) == 2
    assert "BAD_OPTION: INT8 needs images" in capsys.readouterr().err


def test_fp16_needs_none(
    network: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fp16.onnx"
    arguments = ["build", str(network), "--precision", "fp16", "-o", str(out)]
    assert main([*arguments, "--verify", str(labelled)]) == 0
    assert "FP16 - FP32: " in capsys.readouterr().out
    with open_engine(out, backend="openvino") as engine:
        assert engine.spec.precision == "fp16"


def test_a_users_own_network_is_quantised(
    network: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(network)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "own.onnx")
    out = tmp_path / "own-int8.onnx"
    arguments = ["build", str(tmp_path / "own.onnx"), "-o", str(out)]
    assert main([*arguments, "--calib-data", str(images), "-q"]) == 0
    with open_engine(out, backend="openvino") as engine:
        assert engine.profile().precision == "int8"


@pytest.fixture
def agreeing(network: Path, labelled: Path) -> Path:
    """Labels that are what the FP32 network says, so that any other answer is a loss."""
    with open_engine(network, backend="openvino", precision="fp32") as engine:
        for image in sorted(labelled.rglob("*_leftImg8bit.png")):
            frame = to_engine_input(read_frame(image), SIZE, SIZE)
            name = image.name.replace("leftImg8bit", "gtFine_labelTrainIds")
            label = labelled / "gtFine" / "val" / "ulm" / name
            assert cv2.imwrite(str(label), engine.infer(frame[None])[0])
    return labelled


def test_a_real_loss_over_max_drop_writes_nothing(
    network: Path, agreeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    night = tmp_path / "night"  # one dark picture: by day, everything saturates
    night.mkdir()
    assert cv2.imwrite(str(night / "night.png"), np.full((SIZE, SIZE, 3), 120, np.uint8))
    out = tmp_path / "out" / "int8.onnx"
    out.parent.mkdir()
    typed = ["build", str(network), "-o", str(out), "--calib-data", str(night), "-q"]
    typed += ["--calib-method", "minmax", "--verify", str(agreeing)]
    assert main([*typed, "--max-drop", "0.5"]) == 1
    shown = capsys.readouterr()
    assert "INT8 - FP32: -" in shown.out
    assert "written    nothing" in shown.out
    assert shown.err.startswith("rt-seg-engine: error: ACCURACY_DROP: INT8 loses ")
    assert "--max-drop allows 0.5" in shown.err
    assert shown.err.count("\n") == 1
    assert not list(out.parent.iterdir())

    out.write_bytes(b"an older one")
    assert main([*typed, "--max-drop", "0.5", "--force", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["output"] is None
    assert record["verify"]["fp32"]["miou"] == 1.0
    assert record["verify"]["int8"]["miou"] < 0.995
    assert out.read_bytes() == b"an older one"

    assert main([*typed, "--max-drop", "100", "--force"]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["int8.onnx"]
    with open_engine(out, backend="openvino") as engine:
        assert engine.spec.precision == "int8"


def test_max_drop_needs_labels(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(network), "--calib-data", ".", "--max-drop", "1"]) == 2
    assert "USAGE: --max-drop needs labelled images: --verify DATA" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_network_of_any_size_is_verified_in_the_size_asked_for(
    images: Path, labelled: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = TinyNet(dynamic=("hw",), channels=4).save(tmp_path / "any.onnx")
    out = tmp_path / "out.onnx"
    typed = ["build", str(source), "-o", str(out), "--calib-data", str(images), "--size", "96x64"]
    if precision == "int8":  # two convolutions, of which the logits stay in float
        typed += ["--calib-method", "minmax"]
    assert main([*typed, "--precision", precision, "--verify", str(labelled), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["verify"][precision]["agreement_with_fp32"] > 0.9


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_network_that_cannot_be_judged_is_said_before_the_work(
    images: Path, labelled: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was found out at the end, after minutes of calibration."""
    source = TinyNet(classes=5, channels=4).save(tmp_path / "five.onnx")
    out = tmp_path / "out.onnx"
    typed = ["build", str(source), "-o", str(out), "--calib-data", str(images)]
    assert main([*typed, "--precision", precision, "--verify", str(labelled)]) == 1
    shown = capsys.readouterr().err
    assert "CLASS_MISMATCH: the network lacks classes of Cityscapes: road, " in shown
    kinds = [line.split(":")[1] for line in shown.splitlines()]
    assert kinds == [" warning", " error"]  # no progress before it
    assert not out.exists()


def test_what_is_assumed_is_said_once(
    images: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = TinyNet(channels=4).save(tmp_path / "foreign.onnx")
    typed = ["build", str(source), "-o", str(tmp_path / "out.onnx"), "--calib-data", str(images)]
    typed += ["--calib-method", "minmax", "--verify", str(labelled), "-q"]
    assert main(typed) == 0
    assert capsys.readouterr().err.count("foreign.onnx does not say everything") == 1


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    network: Path, images: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "no" / "net.onnx"
    typed = ["build", str(network), "--calib-data", str(images), "--precision", precision]
    for out, line in ((absent, "no such folder"), (images, "is a folder")):
        assert main([*typed, "-o", str(out), "--force"]) == 1
        shown = capsys.readouterr().err
        assert f"NOT_FOUND: {line}" in shown or f"NOT_FOUND: {out} {line}" in shown
        assert len(shown.splitlines()) == 1  # no progress before it


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_has_its_reason(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    partial_name(folder / "net.onnx").symlink_to("/dev/full")
    typed = ["build", str(network), "--precision", "fp16", "-o", str(folder / "net.onnx")]
    assert main(typed) == 1
    assert "NO_SPACE: cannot write" in capsys.readouterr().err
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["--target", "ampere+"], "--target is for an engine of a GPU"),
        (["--max-batch", "2"], "--max-batch is for an engine of a GPU"),
        (["--workspace", "64"], "--workspace is for an engine of a GPU"),
        (["--backend", "rtx", "--timing-cache", "x"], "--timing-cache is for --backend tensorrt"),
        (["--precision", "fp16", "--keep-fp16", "stem"], "--keep-fp16 is for --precision int8"),
        (["--backend", "rtx", "--calib-cache", "x"], "--calib-cache is for --precision int8"),
        (["--backend", "rtx", "--precision", "fp32"], "--calib-data is for --precision int8"),
        (["--calib-percentile", "99"], "--calib-percentile is for --calib-method percentile"),
        (["--verify-images", "3"], "--verify-images needs labelled images"),
        (["--max-drop", "3"], "--max-drop needs labelled images"),
    ],
)
def test_an_option_that_would_change_nothing_is_wrong_usage(
    network: Path, typed: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(network), "--calib-data", ".", *typed]) == 2
    shown = capsys.readouterr().err
    assert f"USAGE: {line}" in shown
    assert shown.count("\n") == 1


def test_a_missing_folder_for_the_cache_is_said_before_the_work(
    network: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["build", str(network), "--calib-data", str(images), "-o", str(tmp_path / "o.onnx")]
    assert main([*typed, "--calib-cache", str(tmp_path / "no" / "c.json")]) == 1
    shown = capsys.readouterr().err
    assert "NOT_FOUND: no such folder" in shown
    assert shown.count("\n") == 1


def test_fp16_of_an_int8_file_has_nothing_to_be_compared_with(
    network: Path, images: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    int8, out = tmp_path / "int8.onnx", tmp_path / "half.onnx"
    typed = ["build", str(network), "-o", str(int8), "--calib-data", str(images), "-q"]
    assert main(typed) == 0
    typed = ["build", str(int8), "-o", str(out), "--precision", "fp16", "-q"]
    assert main([*typed, "--verify", str(labelled)]) == 2
    assert "BAD_OPTION: --verify compares with the FP32 network" in capsys.readouterr().err
    assert not out.exists()
    assert main(typed) == 0
