from __future__ import annotations

import pytest

from rtseg.models.errors import ModelError
from rtseg.models.graph import steps_of
from rtseg.models.registry import NETWORKS, build, load_weights
from rtseg.models.summary import measure

pytest.importorskip("keras", reason="needs the extra 'train'")

#: Pixels of the input a pixel of the logits; 4 where not named.
OUTPUT_STRIDES = {"separable-unet": 1, "bayesian-segnet": 1, "fast-scnn": 8}

#: Parameters as published, in millions, how far we may be off, and ours to the last one.
PUBLISHED = {
    "deeplabv3plus": (41.05, 0.01, 41_256_931),
    "bayesian-segnet": (29.46, 0.01, 29_461_907),
    "fast-scnn": (1.11, 0.05, 1_161_379),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_ends_at_its_stride(name: str) -> None:
    model = build(name, 64, 96, classes=7)
    assert model.input_shape == (None, 64, 96, 3)
    stride = OUTPUT_STRIDES.get(name, 4)
    assert model.output_shape == (None, 64 // stride, 96 // stride, 7)
    assert model.name == name


@pytest.mark.parametrize("size", [(32, 32), (32, 160), (224, 64)])
def test_any_multiple_of_32_builds(size: tuple[int, int]) -> None:
    assert build("espnet-lite", *size).output_shape[1:3] == (size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("size", [(0, 32), (100, 64), (64, -32)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    from rtseg.models.layers import check_input_size

    with pytest.raises(ModelError, match="multiples of 32") as caught:
        check_input_size(*size)
    assert caught.value.reason == "BAD_CONFIG"


def test_espnet_has_the_tensors_of_the_paper_at_512() -> None:
    shapes = {step.layer.name: step.shape[1:] for step in steps_of(build("espnet-s0"))}
    assert shapes["ppm_concat"] == (16, 16, 640)
    assert shapes["up8"] == (128, 128, 640)
    assert shapes["fuse_add"] == (128, 128, 128)
    for bins in (1, 2, 3, 6):
        assert shapes[f"ppm_{bins}_conv"] == (bins, bins, 80)


@pytest.mark.parametrize(
    "name", ["espnet-lite", "espnet-base-s0", "separable-unet", "bayesian-segnet", "fast-scnn"]
)
def test_the_order_of_the_layers_is_that_of_every_size(name: str) -> None:
    orders = [[layer.name for layer in build(name, *s).layers] for s in ((32, 32), (192, 512))]
    assert orders[0] == orders[1]


def test_sizes_of_the_default_network() -> None:
    size = measure(build("espnet-lite"))
    assert size.parameters == 3_204_563
    assert size.macs == 2_115_272_704


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_of_the_comparison_networks(name: str) -> None:
    published, tolerance, ours = PUBLISHED[name]
    size = measure(build(name, 64, 64))
    assert size.parameters == ours
    assert size.trainable / 1e6 == pytest.approx(published, rel=tolerance)


def test_the_single_bin_has_no_batch_norm() -> None:
    names = {layer.name for layer in build("espnet-lite", 64, 64).layers}
    assert "ppm_2_conv_bn" in names
    assert "ppm_1_conv_bn" not in names


def test_an_unknown_network_lists_the_known() -> None:
    with pytest.raises(ModelError, match="Allowed: espnet-lite, espnet-s0"):
        build("espnet-xxl")


def test_weights_that_do_not_fit(tmp_path: object) -> None:
    model = build("espnet-lite", 32, 32)
    with pytest.raises(ModelError, match="no such weights file") as caught:
        load_weights(model, f"{tmp_path}/none.weights.h5")
    assert caught.value.reason == "NOT_FOUND"
    other = build("espnet-lite", 32, 32, classes=3)
    path = f"{tmp_path}/other.weights.h5"
    other.save_weights(path)
    with pytest.raises(ModelError, match="does not fit espnet-lite") as caught:
        load_weights(model, path)
    assert caught.value.reason == "BAD_WEIGHTS"
