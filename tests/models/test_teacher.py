from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.calibration.cityscapes import find_samples, read_image, read_label
from rtseg.engines.wholefile import partial_name
from rtseg.models.errors import ModelError
from rtseg.models.teacher import Teacher, pseudo_label, write_pseudo_labels
from rtseg.models.teacher_cache import open_remembered
from rtseg.tools.rt_seg_model import main

pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")


def write_teacher(
    path: Path, height: int | str = 16, *, classes: int = 20, colours: int = 3
) -> Path:
    """A network that is sure of sky (10) where it is bright and of road (0) elsewhere."""
    kernel = np.zeros((classes, colours, 1, 1), np.float32)
    kernel[10:11], kernel[0] = 3.0, -3.0
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["logits"])],
        "teacher",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, colours, height, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes, height, 32])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_frames_become_a_data_set(tmp_path: Path) -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:32] = 255
    frame = tmp_path / "ulm_000001_000000_leftImg8bit.png"
    cv2.imwrite(str(frame), image)
    teacher = Teacher(write_teacher(tmp_path / "teacher.onnx"))
    out = tmp_path / "pseudo"
    assert write_pseudo_labels([frame], teacher, out, ignore_bottom=0.25) == 1
    (sample,) = find_samples(out, "train")
    assert sample.group == "ulm"
    assert np.array_equal(read_image(sample.image), image)
    label = read_label(sample)
    assert (label[:28] == 10).all()
    assert (label[36:48] == 0).all()
    assert (label[48:] == 255).all()


def test_frames_of_one_name_get_their_folder_before_it(tmp_path: Path) -> None:
    teacher = Teacher(write_teacher(tmp_path / "teacher.onnx"))
    frames = [tmp_path / name for name in ("a/frame_000000.png", "b/frame_000000.png", "c/one.png")]
    for shade, frame in enumerate(frames):
        frame.parent.mkdir()
        cv2.imwrite(str(frame), np.full((32, 64, 3), 100 * shade, np.uint8))
    out = tmp_path / "pseudo"
    assert write_pseudo_labels(frames, teacher, out) == 3
    samples = find_samples(out, "train")
    assert [sample.name for sample in samples] == ["a_frame_000000", "b_frame_000000", "one"]
    assert [int(read_image(sample.image)[0, 0, 0]) for sample in samples] == [0, 100, 200]


def test_frames_that_cannot_be_told_apart_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    teacher = Teacher(write_teacher(tmp_path / "teacher.onnx"))
    frames = [tmp_path / name for name in ("x/day/1.png", "y/day/1.png")]
    for frame in frames:
        frame.parent.mkdir(parents=True)
        cv2.imwrite(str(frame), np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(ModelError, match="two images would be written as day_1") as caught:
        write_pseudo_labels(frames, teacher, tmp_path / "pseudo")
    assert caught.value.reason == "BAD_DATA"
    assert not (tmp_path / "pseudo").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_and_leaves_no_empty_file(tmp_path: Path) -> None:
    teacher = Teacher(write_teacher(tmp_path / "teacher.onnx"))
    frame = tmp_path / "ulm_1.png"
    cv2.imwrite(str(frame), np.zeros((32, 64, 3), np.uint8))
    folder = tmp_path / "pseudo" / "gtFine" / "train" / "ulm"
    folder.mkdir(parents=True)
    partial_name(folder / "ulm_1_gtFine_labelTrainIds.png").symlink_to("/dev/full")
    with pytest.raises(ModelError, match="No space left on device") as caught:
        write_pseudo_labels([frame], teacher, tmp_path / "pseudo")
    assert caught.value.reason == "NO_SPACE"
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = write_teacher(tmp_path / "teacher.onnx")
    frame = tmp_path / "ulm_1.png"
    cv2.imwrite(str(frame), np.zeros((32, 64, 3), np.uint8))
    out = teacher / "inside"  # a file is no folder
    arguments = ["pseudo-label", str(frame), "--teacher", str(teacher), "--out", str(out)]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("rt-seg-model: error: PERMISSION_DENIED: cannot write ")
    assert error.count("\n") == 1


def test_what_the_teacher_is_not_sure_of_is_void() -> None:
    probabilities = np.full((20, 2, 2), 0.5 / 19, np.float32)
    probabilities[3, 0] = 0.9
    probabilities[19, 1] = 0.9
    label = pseudo_label(probabilities, 0.6, (2, 2))
    assert label.tolist() == [[3, 3], [255, 255]]


def test_teachers_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be opened") as caught:
        Teacher(tmp_path / "none.onnx").open()
    assert caught.value.reason == "BAD_WEIGHTS"
    free = write_teacher(tmp_path / "free.onnx", "h")
    with pytest.raises(ModelError, match="with fixed H and W"):
        Teacher(free).open()
    few = write_teacher(tmp_path / "few.onnx", classes=5)
    with pytest.raises(ModelError, match="the first 19 channels") as caught:
        Teacher(few).open()
    assert caught.value.reason == "CLASS_MISMATCH"
    with pytest.raises(ModelError, match="1, 4, 16, 32"):
        Teacher(write_teacher(tmp_path / "four.onnx", colours=4)).open()


def test_no_frame_at_all(tmp_path: Path) -> None:
    teacher = Teacher(write_teacher(tmp_path / "teacher.onnx"))
    with pytest.raises(ModelError, match="no image to label") as caught:
        write_pseudo_labels([], teacher, tmp_path / "out")
    assert caught.value.reason == "NOT_FOUND"


def test_answers_are_remembered_for_the_image_and_the_teacher(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (64, 128, 3), np.uint8)
    teacher, kept = Teacher(write_teacher(tmp_path / "teacher.onnx")), tmp_path / "kept"
    see = open_remembered(teacher, kept)
    answer = see(image)
    planes = [
        cv2.resize(plane, (256, 128), interpolation=cv2.INTER_AREA)
        for plane in teacher.open()(image)
    ]
    assert np.abs(answer - np.stack(planes)).max() <= 0.5 / 255 + 1e-6
    (file,) = kept.rglob("*.npz")
    see(255 - image)
    assert len(list(kept.rglob("*.npz"))) == 2
    # What is in the file is what a later run hears.
    marked = np.full((20, 128, 256), 51, np.uint8)
    np.savez_compressed(file, soft=marked)
    assert (open_remembered(teacher, kept)(image) == np.float32(51) / 255).all()
    # Another teacher, or another normalisation, is asked itself.
    other = Teacher(teacher.path, mean=(0.0, 0.0, 0.0))
    assert not (open_remembered(other, kept)(image) == np.float32(51) / 255).all()


def test_a_damaged_memory_is_asked_again(tmp_path: Path) -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    teacher, kept = Teacher(write_teacher(tmp_path / "teacher.onnx")), tmp_path / "kept"
    answer = open_remembered(teacher, kept)(image)
    (file,) = kept.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(open_remembered(teacher, kept)(image), answer)
    with np.load(file) as mended:
        assert np.array_equal(mended["soft"], np.round(answer * 255))


def test_a_memory_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    teacher = Teacher(write_teacher(tmp_path / "teacher.onnx"))
    (tmp_path / "kept").write_text("a file where the folder should be")
    answer = open_remembered(teacher, tmp_path / "kept")(np.zeros((64, 128, 3), np.uint8))
    assert answer.shape == (20, 128, 256)


def test_a_missing_teacher_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing\.onnx"):
        open_remembered(Teacher(tmp_path / "missing.onnx"), tmp_path)


def test_a_name_that_begins_with_an_underscore_has_a_folder(tmp_path: Path) -> None:
    teacher = Teacher(write_teacher(tmp_path / "teacher.onnx"))
    cv2.imwrite(str(tmp_path / "_DSC0001.png"), np.full((32, 64, 3), 100, np.uint8))
    assert write_pseudo_labels([tmp_path / "_DSC0001.png"], teacher, tmp_path / "out") == 1
    (sample,) = find_samples(tmp_path / "out", "train")
    assert sample.image.name.startswith("_DSC0001")
