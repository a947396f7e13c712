from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from rtseg.calibration.cityscapes import read_image
from rtseg.engines.labels import CITYSCAPES, distinct_palette
from rtseg.engines.reshape import upscale_factor
from rtseg.engines.spec import METADATA_KEY, EngineSpec
from rtseg.engines.wholefile import partial_name
from rtseg.models.errors import ModelError
from rtseg.models.export import export_onnx, to_onnx, weights_sha256
from rtseg.models.registry import NETWORKS, build
from tests.data import find_shared_data
from tests.models.scenes import scene

keras = pytest.importorskip("keras", reason="needs the extra 'train'")
ort = pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")

SIZE = (128, 192)


def frames() -> NDArray[np.uint8]:
    """Two real frames where there are any, drawn ones elsewhere."""
    height, width = SIZE
    shared = find_shared_data()
    if shared is None:
        return np.stack([scene(seed, width, height)[0] for seed in (1, 2)])
    paths = sorted((shared / "unlabelled-1024x512").glob("*.jpg"))[::40]
    images = [cv2.resize(read_image(path), (width, height)) for path in paths]
    return np.stack(images).astype(np.uint8)


def test_an_export_leaves_the_model_as_it_was() -> None:
    model = build("espnet-lite", 64, 64)
    before = [set(vars(layer)) for layer in model.layers]
    to_onnx(model)
    assert [set(vars(layer)) for layer in model.layers] == before


def stir(model: Any, images: NDArray[np.uint8], seed: int = 0) -> None:
    """Give BatchNorms statistics that an export cannot ignore, and every class a chance."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            shape = layer.get_weights()[0].shape
            layer.set_weights(
                [
                    rng.uniform(0.6, 1.4, shape),
                    rng.normal(0, 0.3, shape),
                    rng.normal(0, 0.3, shape),
                    rng.uniform(0.5, 2.0, shape),
                ]
            )
    logits = model.predict(images.astype(np.float32), verbose=0)
    mean, deviation = logits.mean((0, 1, 2)), logits.std((0, 1, 2)) + 1e-9
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel / deviation, (bias - mean) / deviation])


def predicted(model: Any, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    logits = model.predict(images.astype(np.float32), verbose=0)
    full = keras.ops.image.resize(logits, SIZE, antialias=False, data_format="channels_last")
    return np.asarray(keras.ops.convert_to_numpy(full)).argmax(-1).astype(np.uint8)


@pytest.mark.parametrize("name", ["espnet-lite", "espnet-s0", "espnet-base-s0"])
def test_the_file_sees_what_predict_sees(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(7)
    model = build(name, *SIZE)
    images = frames()
    stir(model, images)
    path = export_onnx(model, tmp_path / "net.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    labels = session.run(None, {"frames": images})[0]
    expected = predicted(model, images)
    assert labels.dtype == np.uint8
    assert labels.shape == (2, *SIZE)
    assert len(np.unique(expected)) > 3
    assert (labels == expected).mean() >= 0.999
    single = session.run(None, {"frames": images[1:]})[0]
    assert (single[0] == labels[1]).mean() >= 0.999


@pytest.mark.parametrize("taken", [(128, 128), (200, 96), (64, 300)])
def test_a_file_may_take_other_frames_than_its_network(
    taken: tuple[int, int], tmp_path: Path
) -> None:
    """It sees what predict sees of frames brought to the network's size, and says so."""
    keras.utils.set_random_seed(7)
    model = build("espnet-lite", *SIZE)
    images = np.stack([cv2.resize(image, taken[::-1]) for image in frames()])
    resize = partial(keras.ops.image.resize, antialias=False, data_format="channels_last")
    inner = keras.ops.convert_to_numpy(resize(images.astype(np.float32), SIZE))
    stir(model, np.asarray(inner))
    path = export_onnx(model, tmp_path / "net.onnx", frames=taken)
    labels = ort.InferenceSession(str(path)).run(None, {"frames": images})[0]
    full = resize(model.predict(np.asarray(inner), verbose=0), taken)
    expected = np.asarray(keras.ops.convert_to_numpy(full)).argmax(-1)
    assert len(np.unique(expected)) > 3
    assert (labels == expected).mean() >= 0.999
    spec = EngineSpec.from_json(onnx.load(path).metadata_props[0].value)
    assert (spec.height, spec.width) == taken
    assert spec.extra == {"inner": "192x128"}


@pytest.fixture(scope="module")
def small() -> Any:
    keras.utils.set_random_seed(1)
    return build("espnet-lite", 32, 64)


def test_the_file_describes_itself(small: Any) -> None:
    model = to_onnx(small, extra={"run": "test"})
    assert [e.key for e in model.metadata_props] == [METADATA_KEY]
    spec = EngineSpec.from_json(model.metadata_props[0].value)
    assert (spec.network, spec.height, spec.width) == ("espnet-lite", 32, 64)
    assert spec.classes == CITYSCAPES
    assert (spec.mean, spec.std, spec.scale) == ((127.0,) * 3, (128.0,) * 3, 1.0)
    assert spec.precision == "fp32"
    assert spec.source_sha256 == weights_sha256(small)
    assert "non-commercial" in spec.licence
    assert spec.extra == {"run": "test"}


def test_no_batch_norm_is_left_and_convolutions_keep_their_names(small: Any) -> None:
    model = to_onnx(small)
    kinds = {node.op_type for node in model.graph.node}
    assert kinds <= {
        "Cast", "Transpose", "Mul", "Add", "Conv", "Clip", "AveragePool", "GlobalAveragePool",
        "Concat", "Resize", "ArgMax",
    }  # fmt: skip
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert {"stem", "block0_dw", "neck", "logits"} <= convolutions
    assert model.opset_import[0].version == 17


def test_the_same_weights_make_the_same_file(small: Any) -> None:
    assert to_onnx(small).SerializeToString() == to_onnx(small).SerializeToString()


def test_a_fixed_batch(small: Any) -> None:
    shape = to_onnx(small, batch=3).graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [3, 32, 64, 3]


def test_weights_that_are_not_finite_are_refused() -> None:
    model = build("espnet-lite", 32, 32)
    kernel, bias = model.get_layer("logits").get_weights()
    kernel[0, 0, 0, 0] = np.nan
    model.get_layer("logits").set_weights([kernel, bias])
    with pytest.raises(ModelError, match=r"not finite: .*logits") as caught:
        to_onnx(model)
    assert caught.value.reason == "BAD_WEIGHTS"


def test_classes_must_fit_the_channels(small: Any) -> None:
    from rtseg.engines.labels import ClassTable

    table = ClassTable(("a", "b"), distinct_palette(2))
    with pytest.raises(ModelError, match="19 output channels; the class table has 2") as caught:
        to_onnx(small, classes=table)
    assert caught.value.reason == "CLASS_MISMATCH"


def test_an_unknown_layer_is_named() -> None:
    frames_in = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling([1.0] * 3, [0.0] * 3)(frames_in)
    x = keras.layers.Conv2D(19, 1)(keras.layers.LeakyReLU(name="leak")(x))
    with pytest.raises(ModelError, match="cannot handle layer 'leak' of type LeakyReLU"):
        to_onnx(keras.Model(frames_in, x))


def test_an_unwritable_place_leaves_nothing(small: Any, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(ModelError, match="cannot write") as caught:
        export_onnx(small, blocker / "net.onnx")
    assert caught.value.reason == "PERMISSION_DENIED"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_keeps_the_file_before(small: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("before")
    partial_name(tmp_path / "net.onnx").symlink_to("/dev/full")
    with pytest.raises(ModelError, match="No space left") as caught:
        export_onnx(small, path)
    assert caught.value.reason == "NO_SPACE"
    assert path.read_text() == "before"


@pytest.mark.parametrize("source", [1, 2, 3, 6, 7, 13])
def test_upscaling_hits_its_target(source: int) -> None:
    for target in range(source, 300):
        assert int(np.floor(np.float32(source * upscale_factor(source, target)))) == target


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_exports(name: str) -> None:
    onnx.checker.check_model(to_onnx(build(name, 64, 64)), full_check=True)
