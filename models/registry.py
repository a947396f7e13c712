"""The networks by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rtseg.engines.lookup import is_file
from rtseg.models.errors import ModelError, missing_package

if TYPE_CHECKING:
    import keras

#: Name -> module, function, options; imported on use, because Keras takes seconds to load.
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "espnet-lite": ("rtseg.models.espnet_lite", "build_espnet_lite", {}),
    "espnet-s0": ("rtseg.models.espnet", "build_espnet", {"variant": "s0"}),
    "espnet-s1": ("rtseg.models.espnet", "build_espnet", {"variant": "s1"}),
    "espnet-s2": ("rtseg.models.espnet", "build_espnet", {"variant": "s2"}),
    "espnet-base-s0": ("rtseg.models.espnet", "build_espnet", {"variant": "s0", "final": False}),
    "espnet-base-s1": ("rtseg.models.espnet", "build_espnet", {"variant": "s1", "final": False}),
    "espnet-base-s2": ("rtseg.models.espnet", "build_espnet", {"variant": "s2", "final": False}),
    "separable-unet": ("rtseg.models.separable_unet", "build_separable_unet", {}),
    "deeplabv3plus": ("rtseg.models.deeplab", "build_deeplab", {}),
    "bayesian-segnet": ("rtseg.models.bayesian_segnet", "build_bayesian_segnet", {}),
    "fast-scnn": ("rtseg.models.fast_scnn", "build_fast_scnn", {}),
}
DEFAULT = "espnet-lite"

#: Input size (height, width) of the networks whose weights are for another one than `COMMON_SIZE`.
OWN_SIZES = {"espnet-lite": (480, 640)}
COMMON_SIZE = (512, 512)

#: Networks whose encoder starts from the EfficientNet-Lite0 ImageNet weights. The convolutions of
#: B0 have the same shapes as those of Lite0; its squeeze-excite starts at random.
LITE0_NETWORKS = frozenset({"espnet-lite", "espnet-s0", "espnet-base-s0"})


def check_name(name: str) -> None:
    """Check that there is a network of this name; imports nothing.

    Raises:
        ModelError: ``BAD_CONFIG``: there is none; names those there are.
    """
    if name not in NETWORKS:
        raise ModelError(
            f"unknown network {name!r}. Allowed: {', '.join(NETWORKS)}", reason="BAD_CONFIG"
        )


def own_size(name: str) -> tuple[int, int]:
    """Return the input size (height, width) that a network is trained for, as far as is known."""
    return OWN_SIZES.get(name, COMMON_SIZE)


def builder(name: str) -> Callable[..., keras.Model]:
    """Return the function (height, width, classes) -> Keras model of a network.

    Raises:
        ModelError: unknown name, or Keras is not installed.
    """
    check_name(name)
    module, function, options = NETWORKS[name]
    try:
        found = getattr(import_module(module), function)
    except ImportError as error:
        raise missing_package("'rt-seg[train]'", f"network {name}") from error
    return partial(found, **options)


def build(name: str, height: int = 512, width: int = 512, classes: int = 19) -> keras.Model:
    """Build a network with random weights; see `builder`."""
    return builder(name)(height, width, classes)


def load_weights(model: keras.Model, path: str) -> None:
    """Load a ``.weights.h5`` file into ``model``.

    Raises:
        ModelError: the file is missing, damaged or of another network.
    """
    if not is_file(path):
        raise ModelError(f"no such weights file: {path}", reason="NOT_FOUND")
    try:
        with warnings.catch_warnings():
            # Keras only warns when it leaves layers at random.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise ModelError(
            f"{path} does not fit {model.name}: {str(error).splitlines()[0]}",
            reason="BAD_WEIGHTS",
        ) from error
