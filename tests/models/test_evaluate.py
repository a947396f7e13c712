from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.calibration.camvid import find_camvid, to_cityscapes_table
from rtseg.calibration.cityscapes import find_samples, read_image, read_label
from rtseg.engines.deployable import set_description
from rtseg.engines.errors import EngineError
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.engines.shipped import shipped_models
from rtseg.engines.spec import EngineSpec
from rtseg.models.errors import ModelError
from rtseg.models.evaluate import (
    as_text,
    engine_predictor,
    find_data,
    judge,
    keras_predictor,
    logits_predictor,
    open_predictor,
    upsample_argmax,
)
from rtseg.models.export import STREET
from tests.calibration.nets import Builder, engine_file
from tests.models.scenes import write_camvid, write_cityscapes


def test_a_perfect_predictor_scores_one(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, "val", count=2, label_size=(512, 256))
    samples = find_data(tmp_path, "val", "cityscapes")
    answers = iter([read_label(s) for s in samples])
    table, result = judge(lambda image, size: np.minimum(next(answers), 18), samples)
    assert result.mean_iou == result.pixel_accuracy == 1.0
    assert as_text(table, result).splitlines()[-2].split() == ["mIoU", "100.00"]


def test_camvid_is_judged_in_its_own_classes(tmp_path: Path) -> None:
    write_camvid(tmp_path, "val")
    samples = find_camvid(tmp_path, "val")

    def predict(image: Any, size: tuple[int, int]) -> Any:
        # The scene's image shows its class id; bicyclist is seen as a rider.
        guess = to_cityscapes_table()[image[:, :, 0]]
        guess[image[:, :, 0] == 10] = 12
        return np.minimum(guess, 18)

    table, result = judge(predict, samples, "camvid")
    assert len(table) == 11
    assert result.mean_iou == 1.0


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Allowed: cityscapes, camvid"):
        find_data(tmp_path, "val", "kitti")


def test_upsampled_logits_equal_the_plain_way() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 6, 8)).astype(np.float32)
    planes = [cv2.resize(p, (32, 24), interpolation=cv2.INTER_LINEAR) for p in logits]
    assert np.array_equal(upsample_argmax(logits, (24, 32)), np.stack(planes).argmax(0))


def test_a_part_of_the_logits_is_what_all_of_them_hold_there() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)
    whole = upsample_argmax(logits, (32, 64))
    part = upsample_argmax(logits, (16, 64), rows=(0.25, 0.75))
    assert (part == whole[8:24]).mean() > 0.999
    part = upsample_argmax(logits, (32, 16), columns=(0.5, 0.75))
    assert (part == whole[:, 32:48]).mean() > 0.999


def test_the_three_ways_agree(tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="needs the extra 'train'")
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")
    from rtseg.models.export import export_onnx
    from rtseg.models.registry import build

    write_cityscapes(tmp_path, "val", count=1)
    image_path = find_samples(tmp_path, "val")[0].image
    image = np.asarray(cv2.imread(str(image_path))[:, :, ::-1])
    model = build("espnet-lite", 64, 64)
    path = export_onnx(model, tmp_path / "net-64x64.onnx")
    size = (64, 64)
    first = keras_predictor(model)(image, size)
    second = logits_predictor(path)(image, size)
    with engine_predictor(path, backend="onnxruntime") as predict:
        third = predict(image, size)
    assert (first == second).mean() > 0.999
    assert (first == third).mean() > 0.99


def test_keras_takes_class_ids_as_the_loop_does(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="needs the extra 'train'")
    from rtseg.models.export import export_onnx
    from rtseg.models.registry import build

    keras.utils.set_random_seed(0)
    write_cityscapes(tmp_path, "val", count=1)
    image = read_image(find_samples(tmp_path, "val")[0].image)
    model = build("espnet-lite", 64, 64)
    weights = tmp_path / "net.weights.h5"
    model.save_weights(weights)
    path = export_onnx(model, tmp_path / "net-64x64-fp32.onnx")
    found = {}
    for file in (weights, path):
        with open_predictor(
            file, network="espnet-lite", size=(64, 64), upsample="labels", backend="auto"
        ) as predict:
            found[file] = predict(image, (256, 512))
    assert (found[weights] == found[path]).mean() > 0.99
    blocks = found[weights].reshape(64, 4, 64, 8)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert not np.array_equal(keras_predictor(model)(image, (256, 512)), found[weights])


def test_another_size_than_a_files_own_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")
    path = engine_file(tmp_path / "net.onnx", range(19), CITYSCAPES.names)
    for upsample in ("labels", "logits"):
        with (
            pytest.raises(EngineError, match="made for 32x32") as caught,
            open_predictor(path, network="", size=(60, 96), upsample=upsample, backend="auto"),
        ):
            pass
        assert caught.value.reason == "ENGINE_MISMATCH"


def test_a_network_of_any_size_takes_the_one_asked_for(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(19, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["logits"])],
        "free",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 19, "h", "w"])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "free.onnx")
    image = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    with open_predictor(
        tmp_path / "free.onnx", network="", size=(32, 64), upsample="labels", backend="auto"
    ) as predict:
        blocks = predict(image, (256, 256)).reshape(32, 8, 64, 4)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert len(np.unique(blocks)) > 1


def bright_file(path: Path, cell: tuple[int, int], limit: float) -> Path:
    """A network of 96x64, as we export them: class 5 where a cell is brighter, else class 3."""
    weights, bias = np.zeros((19, 3, 1, 1), np.float32), np.zeros(19, np.float32)
    weights[5], bias[3] = 1 / 3, limit
    builder = Builder()
    x = builder.node("Cast", ["frames"], "float", to=TensorProto.FLOAT)
    x = builder.node("Transpose", [x], "nchw", perm=[0, 3, 1, 2])
    x = builder.node("AveragePool", [x], "pool", kernel_shape=[*cell], strides=[*cell])
    parts = [builder.constant("weights", weights), builder.constant("bias", bias)]
    x = builder.node("Conv", [x, *parts], "logits")
    x = builder.resize(x, "upsample", (1, 19, 64, 96))
    x = builder.node("ArgMax", [x], "best", axis=1, keepdims=0)
    x = builder.node("Cast", [x], "ids", to=TensorProto.UINT8)
    graph = helper.make_graph(
        builder.nodes,
        "bright",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [1, 64, 96, 3])],
        [helper.make_tensor_value_info(x, TensorProto.UINT8, [1, 64, 96])],
        builder.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = EngineSpec("bright", 64, 96, CITYSCAPES, pad=STREET.pad, stretch=STREET.stretch)
    set_description(model, spec)
    onnx.save(model, path)
    return path


class _Bright:
    """Stands for the same as a Keras network."""

    input_shape = (None, 64, 96, 3)

    def __init__(self, cell: tuple[int, int], limit: float) -> None:
        self.cell, self.limit = cell, limit

    def predict_on_batch(self, views: Any) -> Any:
        rows, columns = self.cell
        cells = views.reshape(1, 64 // rows, rows, 96 // columns, columns, 3)
        logits = np.zeros((1, 64 // rows, 96 // columns, 19), np.float32)
        logits[..., 5] = cells.mean((2, 4, 5))
        logits[..., 3] = self.limit
        return logits


def ways(path: Path, image: Any, cell: tuple[int, int], limit: float) -> list[Any]:
    """What each way of judging says of an image, at its own size."""
    size = image.shape[:2]
    bright_file(path, cell, limit)
    found = [logits_predictor(path)(image, size)]
    for upsample in ("labels", "logits"):
        keras_network: Any = _Bright(cell, limit)
        found.append(keras_predictor(keras_network, upsample)(image, size))
    with engine_predictor(path, backend="onnxruntime") as predict:
        return [*found, predict(image, size)]


@pytest.mark.parametrize(
    ("height", "width", "gray"),
    [(128, 64, True), (64, 64, True), (64, 128, False), (48, 144, False), (32, 256, True)],
)
def test_frames_keep_their_shape_whoever_judges(
    tmp_path: Path, height: int, width: int, gray: bool
) -> None:
    """The whole input's mean tells whether a black frame has gray beside it."""
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")
    black = np.zeros((height, width, 3), np.uint8)
    for found in ways(tmp_path / "bright.onnx", black, (64, 96), 20):
        assert (found == (5 if gray else 3)).all()


@pytest.mark.parametrize(("height", "width"), [(128, 64), (64, 64), (64, 128), (32, 256)])
def test_things_are_found_where_they_are_whoever_judges(
    tmp_path: Path, height: int, width: int
) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")
    image = np.full((height, width, 3), 40, np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = 250
    wanted = np.where(image[:, :, 0] > 100, np.uint8(5), np.uint8(3))
    for found in ways(tmp_path / "bright.onnx", image, (4, 4), 130):
        assert (found == wanted).mean() > 0.96


@pytest.mark.parametrize("upsample", ["labels", "logits"])
def test_our_files_are_judged_at_the_size_asked_for(upsample: str) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")
    shipped = next(model for model in shipped_models() if model.precision == "fp32")
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    with open_predictor(
        shipped.path, network="", size=(64, 96), upsample=upsample, backend="onnxruntime"
    ) as predict:
        assert predict(image, (128, 256)).shape == (128, 256)
    with (
        pytest.raises(EngineError, match="multiples of 32"),
        open_predictor(
            shipped.path, network="", size=(60, 90), upsample=upsample, backend="onnxruntime"
        ),
    ):
        pass


def test_only_our_files_can_be_cut(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")
    with pytest.raises(ModelError, match="no such file") as caught:
        logits_predictor(tmp_path / "none.onnx")
    assert caught.value.reason == "NOT_FOUND"
    (tmp_path / "bad.onnx").write_bytes(b"\x00\x01")
    with pytest.raises(ModelError, match="no ONNX file that can be read"):
        logits_predictor(tmp_path / "bad.onnx")


class _Witness:
    """Stands for a network of 64x64 and keeps what it was given."""

    input_shape = (None, 64, 64, 3)
    seen: Any = None

    def predict_on_batch(self, views: Any) -> Any:
        self.seen = views[0]
        return np.zeros((1, 16, 16, 19), np.float32)


def test_images_are_brought_to_the_networks_size_as_in_the_loop() -> None:
    """Large ones shrink by area: of fine stripes their mean is left, not one of them."""
    image = np.zeros((256, 512, 3), np.uint8)
    image[:, ::2] = 200
    witness = _Witness()
    keras_predictor(witness)(image, (256, 512))  # type: ignore[arg-type]
    assert np.abs(witness.seen - 100).max() <= 1
    assert np.array_equal(witness.seen, array_to_engine_input(image, 64, 64))
