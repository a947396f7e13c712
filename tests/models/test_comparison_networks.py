"""The networks that ESPNet is compared with: exported, on the CPU engine, and sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.engines.registry import open_engine
from rtseg.models.errors import ModelError
from rtseg.models.export import export_onnx
from rtseg.models.registry import build

keras = pytest.importorskip("keras", reason="needs the extra 'train'")
ort = pytest.importorskip("onnxruntime", reason="needs the extra 'onnxruntime'")

SIZE = (64, 128)
NETWORKS = (
    "espnet-s1",
    "espnet-s2",
    "espnet-base-s1",
    "espnet-base-s2",
    "separable-unet",
    "deeplabv3plus",
    "bayesian-segnet",
    "fast-scnn",
)


def frames() -> Any:
    """Two drawn frames with texture, so that many classes are seen."""
    from tests.models.scenes import scene

    rng = np.random.default_rng(3)
    images = np.stack([scene(seed, SIZE[1], SIZE[0])[0] for seed in (1, 2)]).astype(np.int16)
    return np.clip(images + rng.integers(-20, 20, images.shape), 0, 255).astype(np.uint8)


def stir(model: Any, images: Any) -> Any:
    """Give BatchNorms statistics that an export cannot ignore; return logits of all classes."""
    rng = np.random.default_rng(0)
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for layer in norms:
        shape = layer.get_weights()[0].shape
        layer.set_weights(
            [
                rng.uniform(0.8, 1.2, shape),
                rng.normal(0, 0.2, shape),
                rng.normal(0, 0.2, shape),
                rng.uniform(0.5, 2.0, shape),
            ]
        )
    inputs = images.astype(np.float32)
    logits = model.predict_on_batch(inputs)
    mean, deviation = logits.mean((0, 1, 2)), logits.std((0, 1, 2)) + 1e-9
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel / deviation, (bias - mean) / deviation])
    return model.predict_on_batch(inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_sees_what_predict_sees(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(7)
    model = build(name, *SIZE)
    images = frames()
    logits = stir(model, images)
    full = keras.ops.image.resize(logits, SIZE, antialias=False, data_format="channels_last")
    expected = np.asarray(keras.ops.convert_to_numpy(full)).argmax(-1).astype(np.uint8)
    assert len(np.unique(expected)) > 3

    path = export_onnx(model, tmp_path / "net.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert (session.run(None, {"frames": images})[0] == expected).mean() >= 0.998
    with open_engine(path, backend="openvino", precision="fp32", cache_dir=tmp_path) as engine:
        assert engine.spec.network == name
        for image, wanted in zip(images, expected, strict=True):
            assert (engine.infer(image[None])[0] == wanted).mean() >= 0.998


def test_unpooling_puts_values_back_where_they_were() -> None:
    from rtseg.models.bayesian_segnet import MaxUnpool

    before = np.array([[1, 5, 0, 2], [3, 4, 8, 1]], np.float32).reshape(1, 2, 4, 1)
    after = np.array([5, 8], np.float32).reshape(1, 1, 2, 1)
    values = np.array([-7, 9], np.float32).reshape(1, 1, 2, 1)
    result = keras.ops.convert_to_numpy(MaxUnpool()([values, before, after]))
    assert result.reshape(2, 4).tolist() == [[0, -7, 0, 0], [0, 0, 9, 0]]


def test_samples_differ_only_where_dropout_is_on() -> None:
    from rtseg.models.bayesian_segnet import build_bayesian_segnet
    from rtseg.models.uncertainty import sample_posterior

    keras.utils.set_random_seed(5)
    images = frames()[:, :32, :32]
    plain = build_bayesian_segnet(32, 32, 5)
    sampling = build_bayesian_segnet(32, 32, 5, monte_carlo=True)
    sampling.set_weights(plain.get_weights())
    weights = [w.copy() for w in sampling.get_weights()]

    posterior = sample_posterior(sampling, images, samples=4)
    assert posterior.labels.shape == posterior.uncertainty.shape == (2, 32, 32)
    assert posterior.probability.sum(-1) == pytest.approx(1.0, abs=1e-5)
    assert posterior.uncertainty.max() > 1e-6
    # Sampling must not switch BatchNorm to the statistics of the batch, nor learn them.
    for before, after in zip(weights, sampling.get_weights(), strict=True):
        assert np.array_equal(before, after)
    sure = build_bayesian_segnet(32, 32, 5, monte_carlo=True)
    sure.set_weights(weights)
    for layer in sure.layers:
        if hasattr(layer, "sampling"):
            layer.rate = 0.0
    still = sample_posterior(sure, images, samples=2)
    assert still.uncertainty.max() < 1e-9
    expected = keras.ops.convert_to_numpy(
        keras.ops.softmax(plain.predict_on_batch(images.astype(np.float32)))
    )
    assert still.probability == pytest.approx(expected, abs=1e-5)

    with pytest.raises(ModelError, match="at least 2 samples"):
        sample_posterior(sampling, images, samples=1)
    with pytest.raises(ModelError, match="monte_carlo=True"):
        sample_posterior(plain, images)


# Dilated layers, pooling that is undone, logits at strides 4, 8 and 1.
@pytest.mark.parametrize(
    "name", ["fast-scnn", "deeplabv3plus", "separable-unet", "bayesian-segnet"]
)
def test_the_accelerated_trainer_sees_what_predict_sees(name: str) -> None:
    torch = pytest.importorskip("torch", reason="the accelerated trainer needs torch")
    from rtseg.models.torch_twin import TorchTwin

    keras.utils.set_random_seed(7)
    model = build(name, *SIZE)
    images = frames()
    logits = stir(model, images)
    twin = TorchTwin(model).eval()
    with torch.no_grad():
        inputs = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
        seen = twin(inputs).permute(0, 2, 3, 1).numpy()
    # Where two values of a window differ by rounding alone, each may unpool another one, and the
    # convolutions behind spread that.
    apart = np.abs(seen - logits).max(-1) > 1e-2
    assert apart.mean() <= (0.1 if name == "bayesian-segnet" else 0.0)


def test_the_accelerated_trainer_refuses_layers_that_it_does_not_know() -> None:
    pytest.importorskip("torch", reason="the accelerated trainer needs torch")
    from rtseg.models.torch_twin import TorchTwin

    frames = keras.Input((8, 8, 3))
    model = keras.Model(frames, keras.layers.UpSampling2D()(frames))
    with pytest.raises(ModelError, match="cannot handle layer") as caught:
        TorchTwin(model)
    assert caught.value.reason == "UNSUPPORTED_LAYER"
