"""What an engine file says of itself."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from rtseg.engines.errors import EngineError
from rtseg.engines.fit import Fit
from rtseg.engines.labels import CITYSCAPES, ClassTable

FORMAT_VERSION = 1
"""Version of the description below; a file of a newer one is refused."""

METADATA_KEY = "rtseg"
"""Key of the description among an ONNX file's ``metadata_props``."""

Precision = Literal["fp32", "fp16", "bf16", "int8"]
InputKind = Literal["uint8_nhwc_rgb", "float_nchw"]
OutputKind = Literal["labels", "logits"]


@dataclass(frozen=True)
class EngineSpec:
    """The description of an engine: all that the loop needs to know of a network.

    Attributes:
        network: name of the network, for people.
        height: rows of the input, in pixels.
        width: columns of the input, in pixels.
        classes: names, colours and data-set ids, in the order of the output channels.
        precision: the arithmetic the file asks for (``int8`` means explicit Q/DQ nodes).
        input_kind: ``uint8_nhwc_rgb`` (frames as they are) or ``float_nchw`` (the engine
            normalises on the way in).
        output_kind: ``labels`` (class ids) or ``logits`` (the engine takes the argmax and
            upsamples).
        mean: mean of each channel in units of ``scale``, subtracted from the input.
        std: standard deviation of each channel, the input is divided by it after that.
        scale: divisor of the uint8 input before mean and std (255 makes 0..1).
        bgr: whether a ``float_nchw`` network wants blue first.
        pad: as in :class:`rtseg.engines.fit.Fit`, as is ``stretch``.
        stretch: of no meaning where ``pad`` is None.
        source_sha256: hash of the weights the file was made from, or empty.
        calibration_sha256: hash of the calibration set (INT8 only), or empty.
        licence: licence note of the weights, for people.
        extra: whatever else the maker of the file wrote down (strings only).
    """

    network: str
    height: int
    width: int
    classes: ClassTable = CITYSCAPES
    precision: Precision = "fp32"
    input_kind: InputKind = "uint8_nhwc_rgb"
    output_kind: OutputKind = "labels"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    scale: float = 255.0
    bgr: bool = False
    pad: int | None = None
    stretch: tuple[float, float] = (1.0, 1.0)
    source_sha256: str = ""
    calibration_sha256: str = ""
    licence: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(
                f"an engine's input is at least 1x1. Received: {self.height}x{self.width}"
            )
        for name, allowed in (
            ("precision", get_args(Precision)),
            ("input_kind", get_args(InputKind)),
            ("output_kind", get_args(OutputKind)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}. Received: {getattr(self, name)!r}"
                )
        _ = self.fit  # its own checks
        if any(value == 0 for value in self.std) or self.scale == 0:
            raise ValueError(f"std and scale must not be 0. Received: {self.std}, {self.scale}")

    @cached_property
    def fit(self) -> Fit:
        """How frames are brought to the input's size."""
        return Fit(self.pad, self.stretch)

    def to_json(self) -> str:
        """Return the description as one JSON object with a ``format_version``."""
        return json.dumps(
            {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}, sort_keys=True
        )

    @classmethod
    def from_json(cls, text: str) -> EngineSpec:
        """Read what :meth:`to_json` wrote.

        Raises:
            EngineError: not JSON, fields missing or wrong, or a newer format version.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            version = fields.pop("format_version")
            if version > FORMAT_VERSION:
                raise EngineError(
                    f"the engine file has format {version}; this version reads up to "
                    f"{FORMAT_VERSION}: upgrade rt-seg or rebuild the engine",
                    reason="ENGINE_MISMATCH",
                )
            known = {f.name for f in dataclasses.fields(cls)}
            table = fields.pop("classes")
            return cls(
                classes=ClassTable(
                    names=tuple(table["names"]),
                    palette=tuple((r, g, b) for r, g, b in table["palette"]),
                    label_ids=tuple(table.get("label_ids", ())),
                    categories=tuple(table.get("categories", ())),
                ),
                mean=_triple(fields.pop("mean")),
                std=_triple(fields.pop("std")),
                stretch=_pair(fields.pop("stretch", (1.0, 1.0))),
                **{key: value for key, value in fields.items() if key in known},
            )
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise EngineError(
                f"the engine's description cannot be read: {error}", reason="ENGINE_DAMAGED"
            ) from error


def _pair(values: Any) -> tuple[float, float]:
    first, second = (float(value) for value in values)
    return first, second


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
