"""``rt-seg-model evaluate`` with an engine file: what it prints and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.registry import open_engine
from rtseg.tools.rt_seg_model import main
from tests.calibration.nets import engine_file
from tests.engines.networks import TinyNet
from tests.models.scenes import scene, write_camvid, write_cityscapes

WEIGHTS = sorted((Path(__file__).parents[2] / "models" / "weights").glob("*.onnx"))


@pytest.fixture(scope="module")
def network() -> str:
    if not WEIGHTS:
        pytest.skip("this clone has no shipped weights")
    return str(WEIGHTS[0])


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Two images; only the second has instance ids."""
    root = write_cityscapes(tmp_path / "city", "val", count=2)
    _, label = scene(1, 256, 128)
    instances = np.zeros(label.shape, np.uint16)
    instances[20:60, 20:90] = 26001
    label[20:60, 20:90] = 13
    stem = root / "gtFine" / "val" / "lummerland" / "lummerland_000001_000019_gtFine_"
    cv2.imwrite(f"{stem}labelTrainIds.png", label)
    cv2.imwrite(f"{stem}instanceIds.png", instances)
    return root


def test_categories_and_instances_are_reported(
    network: str, city: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", network, "--data", str(city)]) == 0
    text = capsys.readouterr().out
    assert "category mIoU" in text
    assert "instance-weighted (iIoU), images with instance ids: 1" in text
    assert main(["evaluate", network, "--data", str(city), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    matrix = np.array(found["confusion_matrix"])
    assert matrix.shape == (19, 19)
    assert np.trace(matrix) / matrix.sum() == pytest.approx(found["pixel_accuracy"])
    assert {"flat", "vehicle", "human"} <= set(found["category_iou"])
    assert found["instances"]["images"] == 1
    assert "car" in found["instances"]["class_iiou"]


def test_outlines_are_judged_apart(
    network: str, city: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", network, "--data", str(city), "--outline", "3"]
    assert main(arguments) == 0
    assert "within 3 px of an outline" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    outline = found["outline"]
    share, near, away = outline["near_share"], outline["near"], outline["away"]
    together = share * near["pixel_accuracy"] + (1 - share) * away["pixel_accuracy"]
    assert outline["reach_px"] == 3
    assert 0 < share < 1
    assert together == pytest.approx(found["pixel_accuracy"])


def test_a_clip_that_stands_still_is_consistent(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, _ = scene(3, 256, 128)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"frame_{number:06d}.png"), image[:, :, ::-1])
    assert main(["consistency", network, str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["pairs"] == 2
    assert found["mean_iou"] == found["agreement"] == found["judged"] == 1.0
    assert set(found["class_iou"].values()) == {1.0}
    assert main(["consistency", network, str(tmp_path), "--max-frames", "2"]) == 0
    assert "1 pairs of frames, 100.0 % of the pixels judged" in capsys.readouterr().out


def test_smoothing_makes_a_noisy_clip_steadier(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, _ = scene(3, 960, 480)
    random = np.random.default_rng(0)
    for number in range(6):
        noisy = np.clip(image + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"frame_{number:06d}.png"), noisy[:, :, ::-1])
    agreement = []
    for words in ([], ["--smooth", "4"]):
        assert main(["consistency", network, str(tmp_path), "--json", *words]) == 0
        agreement.append(json.loads(capsys.readouterr().out.splitlines()[-1])["agreement"])
    assert agreement[0] < agreement[1]
    assert main(["consistency", network, str(tmp_path), "--smooth", "99"]) == 2
    assert "1 to 10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("clip", "reason"), [("none.mp4", "NOT_FOUND"), ("text.mp4", "NOT_A_VIDEO")]
)
def test_a_clip_that_cannot_be_read_is_one_line(
    network: str, clip: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert main(["consistency", network, str(tmp_path / clip)]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith(f"rt-seg-model: error: {reason}: ")
    assert "Traceback" not in err


def test_one_frame_is_no_clip(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "only.png"), scene(3, 256, 128)[0])
    assert main(["consistency", network, str(tmp_path / "only.png")]) == 1
    assert "BAD_INPUT: consistency needs at least 2 consecutive frames" in capsys.readouterr().err


def test_a_gallery_is_written_once(
    network: str, city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gallery"
    arguments = ["evaluate", network, "--data", str(city), "--gallery", str(folder)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "index.html")
    assert len(list(folder.glob("*.png"))) == 2
    assert main(arguments) == 2
    assert "error: BAD_CONFIG: the folder of a gallery must be empty" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["cityscapes", "camvid"])
@pytest.mark.parametrize("upsample", ["labels", "logits"])
def test_the_order_of_an_engines_classes_changes_nothing(
    kind: str, upsample: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")
    write = write_camvid if kind == "camvid" else write_cityscapes
    root = str(write(tmp_path / "data", "val", count=2))
    found = []
    for number, order in enumerate((range(19), range(18, -1, -1))):
        file = engine_file(tmp_path / f"{number}.onnx", order, CITYSCAPES.names)
        arguments = ["evaluate", str(file), "--data", root, "--kind", kind, "--json"]
        assert main([*arguments, "--upsample", upsample, "--backend", "onnxruntime"]) == 0
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert found[0] == found[1]
    assert np.count_nonzero(np.sum(found[0]["confusion_matrix"], 0)) > 1


def test_an_engine_without_the_classes_of_the_data_is_refused(
    city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(engine_file(tmp_path / "18.onnx", range(18), CITYSCAPES.names[:18]))
    assert main(["evaluate", file, "--data", str(city)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "error: CLASS_MISMATCH: the network lacks classes of Cityscapes: bicycle. " in error


def test_other_classes_are_wrong_and_no_classs_false_positives(
    city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [*CITYSCAPES.names, *(f"other {number}" for number in range(11))]
    image = scene(0, 32, 32)[0]
    with open_engine(engine_file(tmp_path / "net.onnx", range(30), names)) as engine:
        common = int(np.bincount(engine.infer(image[None]).ravel()).argmax())
    names = np.roll(names, common - len(CITYSCAPES)).tolist()  # what is seen most is another
    file = str(engine_file(tmp_path / "30.onnx", range(30), names))
    arguments = ["evaluate", file, "--data", str(city), "--outline", "3"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    matrix = np.array(found["confusion_matrix"])
    assert matrix.shape == (19, 20)
    assert np.trace(matrix) / matrix.sum() == pytest.approx(found["pixel_accuracy"])
    assert main(arguments) == 0
    assert "category mIoU" in capsys.readouterr().out
    assert main([*arguments, "--gallery", str(tmp_path / "gallery")]) == 1
    assert "CLASS_MISMATCH: a gallery has colours" in capsys.readouterr().err
    assert not (tmp_path / "gallery").exists()


def test_consistency_names_the_networks_own_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"thing {number}" for number in range(30)]
    file = str(engine_file(tmp_path / "30.onnx", range(29, -1, -1), names))
    clip = tmp_path / "clip"
    clip.mkdir()
    image, _ = scene(3, 256, 128)
    for number in range(2):
        cv2.imwrite(str(clip / f"frame_{number:06d}.png"), image[:, :, ::-1])
    assert main(["consistency", file, str(clip), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    with open_engine(file) as engine:
        view = cv2.resize(image, (engine.spec.width, engine.spec.height))
        seen = np.unique(engine.infer(np.asarray(view, np.uint8)[None])[0])
        assert set(found["class_iou"]) == {engine.spec.classes.names[number] for number in seen}


def test_logits_need_a_file_of_ours_and_no_other_backend(
    city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    model = TinyNet(height=128, width=256).proto()
    model.graph.node[-1].name = "upsample"
    onnx.save(model, tmp_path / "foreign.onnx")
    typed = ["evaluate", str(tmp_path / "foreign.onnx"), "--data", str(city)]
    assert main([*typed, "--upsample", "logits"]) != 0
    assert "no upsampling to cut off" in capsys.readouterr().err
    assert main([*typed, "--upsample", "logits", "--backend", "openvino"]) == 2
    assert "computed by ONNX Runtime alone" in capsys.readouterr().err
