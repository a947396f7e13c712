"""The trained networks that come with the package, as files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rtseg.engines.errors import EngineError

_FILE_NAME = re.compile(
    r"(?P<name>.+)-(?P<width>\d+)x(?P<height>\d+)-(?P<precision>[a-z0-9]+)\.onnx"
)


@dataclass(frozen=True)
class ShippedModel:
    """One engine file of the package: ``<name>-<width>x<height>-<precision>.onnx``."""

    name: str
    width: int
    height: int
    precision: str
    path: Path


def shipped_models(folder: Path | None = None) -> list[ShippedModel]:
    """Return the engine files that come with the package, by name, size and precision.

    Args:
        folder: where to look instead of the package.
    """
    if folder is None:
        folder = Path(str(resources.files("rtseg.models"))) / "weights"
    return sorted(_named(folder.glob("*.onnx")), key=lambda m: (m.name, m.width * m.height, m.path))


def _named(paths: Iterable[Path]) -> Iterable[ShippedModel]:
    for path in paths:
        if match := _FILE_NAME.fullmatch(path.name):
            yield ShippedModel(
                match["name"], int(match["width"]), int(match["height"]), match["precision"], path
            )


def choose_model(
    models: Sequence[ShippedModel],
    name: str,
    precision: str | None = None,
    size: tuple[int, int] | None = None,
    *,
    prefer_int8: bool = True,
) -> ShippedModel:
    """Pick the file for a network.

    Args:
        models: what there is.
        name: the network.
        precision: what it shall be computed in; BF16 comes from the FP32 file, as does FP16
            where there is no file of its own. None: INT8 where there is such a file.
        size: width and height; None takes the largest that comes in this precision, and for
            another than they come in the nearest by pixels is taken, which can be brought to it
            (`rtseg.engines.reshape`).
        prefer_int8: False for a runtime that is slow with INT8; then None means FP32.

    Raises:
        EngineError: there is no such network or precision; lists those there are.
    """
    named = [model for model in models if model.name == name]
    if not named:
        known = sorted({model.name for model in models})
        raise EngineError(
            f"unknown model {name!r}. Available: {', '.join(known) or 'none in this installation'}",
            reason="BAD_OPTION",
        )
    if precision in (None, "auto"):
        wanted: tuple[str, ...] = (
            ("int8", "fp32", "fp16") if prefer_int8 else ("fp32", "fp16", "int8")
        )
    else:
        assert precision is not None
        wanted = {"bf16": ("fp32",), "fp16": ("fp16", "fp32")}.get(precision, (precision,))
    sizes = sorted({(model.width, model.height) for model in named}, key=lambda s: s[0] * s[1])
    usable = [
        (model.width, model.height)
        for model in sorted(named, key=lambda m: m.width * m.height)
        if model.precision in wanted
    ]
    chosen = (usable or sizes)[-1] if size is None else size
    if chosen not in sizes:
        pixels = chosen[0] * chosen[1]
        chosen = min(usable or sizes, key=lambda found: abs(found[0] * found[1] - pixels))
    files = {m.precision: m for m in named if (m.width, m.height) == chosen}
    for candidate in wanted:
        if candidate in files:
            return files[candidate]
    raise EngineError(
        f"{name} {chosen[0]}x{chosen[1]} does not come in {precision or 'any known precision'}. "
        f"Available: {', '.join(sorted(files))}",
        reason="NOT_FOUND",
    )
