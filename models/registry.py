"""The networks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rtseg.models.errors import ModelError

if TYPE_CHECKING:
    import keras

#: Name -> module and function; imported on use, because Keras takes seconds to load.
BUILDERS: dict[str, tuple[str, str]] = {
    "espnet-lite": ("rtseg.models.espnet_lite", "build_espnet_lite"),
}


def builder(name: str) -> Callable[..., keras.Model]:
    """Return the function (height, width, classes) -> Keras model of a network.

    Raises:
        ModelError: unknown name, or Keras is missing.
    """
    if name not in BUILDERS:
        raise ModelError(
            f"unknown network {name!r}. Allowed: {', '.join(BUILDERS)}", reason="BAD_CONFIG"
        )
    from importlib import import_module

    module, function = BUILDERS[name]
    result: Callable[..., keras.Model] = getattr(import_module(module), function)
    return result
