"""What one training run is: read from JSON, checked, and kept with its checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rtseg.models.errors import ModelError
from rtseg.models.options import WORDS, check, check_types, refuse

T = TypeVar("T")

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("poly", "cosine")
#: How the names of an encoder's layers begin.
ENCODER = ("stem", "block")
PRECISIONS = ("auto", "float32", "bfloat16")


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a size that is one side of a square, or (width, height)."""
    return (size, size) if isinstance(size, int) else (size[1], size[0])


@dataclass(frozen=True)
class SourceConfig:
    """One data set of a run.

    Attributes:
        root: its folder; relative ones are below the data root.
        share: share of all draws (any positive unit).
        kind: ``cityscapes`` or ``camvid``.
        split: usually ``train``.
        sharp: whether its images may be blurred and compressed.
        soft: whether a teacher's probabilities are learnt on it (`TrainConfig.distill`).
        bonnet: lowest part of the frame where the teacher is not believed (the car itself).
        unions: of ``camvid``: a class that holds several of Cityscapes' teaches that a pixel is
            one of them, see `rtseg.models.unions`, and a teacher that names none of them is not
            believed; else it teaches the main one of them, or nothing.
    """

    root: str
    share: float
    kind: str = "cityscapes"
    split: str = "train"
    sharp: bool = True
    soft: bool = False
    bonnet: float = 0.0
    unions: bool = False

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class AugmentConfig:
    """How far views may vary.

    Attributes:
        scale: smallest and largest scale, drawn log-uniformly.
        aspect: largest stretch of one axis against the other.
        brightness, contrast, saturation: largest relative change.
        hue: largest rotation of the colours, in degrees.
        blur: probability of a Gaussian blur (sigma 0.4 to 1.5 pixels).
        jpeg: probability of JPEG compression (quality 25 to 80).
        noise: probability of sensor noise (sigma 2 to 8 of 255).
        mix: probability that a view has a rectangle of another view of its batch put
            into it, label and all (CutMix).
        paste: probability that people and vehicles of another view of its batch are put into
            a view, at the place where they were (`paste_things`).
        mosaic: probability that a view is four small ones of half its side, drawn at
            `mosaic_scale`: there even a small image is as sharp as the network's input.
        mosaic_scale: smallest and largest scale of those.
    """

    scale: tuple[float, float] = (0.7, 1.6)
    aspect: float = 1.3
    brightness: float = 0.25
    contrast: float = 0.3
    saturation: float = 0.4
    hue: float = 12.0
    blur: float = 0.12
    jpeg: float = 0.12
    noise: float = 0.08
    mix: float = 0.0
    paste: float = 0.0
    mosaic: float = 0.0
    mosaic_scale: tuple[float, float] = (0.4, 0.7)

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "blur jpeg noise mix paste mosaic", lambda v: 0 <= v <= 1, "0 to 1")
        check(self, "brightness contrast saturation hue", lambda v: v >= 0, "0 or more")
        check(self, "aspect", lambda v: v >= 1, "1 or more")
        pair = WORDS["tuple[float, float]"]
        check(self, "scale mosaic_scale", lambda v: 0 < v[0] <= v[1], pair)


@dataclass(frozen=True)
class Phase:
    """A stretch of the run.

    Attributes:
        until: where it ends, as a part of the whole run (0 to 1).
        crop: side of the training views in pixels, a multiple of 32, or their width and height.
        batch: views a step.
        augment: limits of its views; None for those of the run. In JSON it needs only what
            differs from the run's.
    """

    until: float
    crop: int | tuple[int, int]
    batch: int
    augment: AugmentConfig | None = None

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class LossConfig:
    """What a run minimises beside class-weighted cross-entropy.

    Attributes:
        hardest: share of the labelled pixels that count, those with the largest loss
            (online hard example mining); 1 counts all.
        dice: weight of 1 - Dice over the classes present.
        lovasz: weight of the Lovász-softmax loss.
        boundary: a pixel near another class counts 1 + this.
        boundary_px: how near, in pixels of the view.
        auxiliary: weight of the same loss on a second head that only training has.
        auxiliary_at: the layer whose output that head reads.
    """

    hardest: float = 1.0
    dice: float = 0.0
    lovasz: float = 0.0
    boundary: float = 0.0
    boundary_px: int = 4
    auxiliary: float = 0.0
    auxiliary_at: str = "neck_act"

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "hardest", lambda v: 0 < v <= 1, "above 0, to 1")
        check(self, "dice lovasz boundary auxiliary", lambda v: v >= 0, "0 or more")
        check(self, "boundary_px", lambda v: v >= 1, "1 or more")


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        network: name in the registry.
        sources: data sets and their shares.
        size: side of the network's whole view in pixels, or its width and height: what a view of
            scale 1 maps a frame to. Validation runs at it.
        phases: crops, batch sizes and, where they change, limits of the views along the run;
            the last ends at 1.
        steps: length of the run in steps; with ``minutes`` the shorter of both.
        minutes: length of the run in minutes of training, or None.
        optimiser: ``adamw``, or ``sgd`` with Nesterov momentum 0.9.
        encoder_rate, head_rate: peak learning rates.
        weight_decay: of kernels; norms and biases have none.
        warmup: steps of linear warm-up.
        schedule: ``poly`` or ``cosine``, from the peak to 0.
        power: of the polynomial decay.
        clip: largest norm of the gradient.
        weight_cap: cap of the class weights; 1 means unweighted.
        loss: what is added to cross-entropy.
        rare: share of the views that are cut around a pixel of a class drawn by its rarity.
        distill: weight of the cross-entropy against a teacher's probabilities, on the
            sources marked ``soft``; 0 needs no teacher.
        precision: ``float32``, ``bfloat16`` (master weights stay float32), or ``auto``: for
            the torch trainer bfloat16 on GPUs and on CPUs with AMX, on others what a few
            steps show to be quicker. A run goes on with what it began with.
        freeze: layers that stay as they are, by the first part of their names
            (``block0`` means ``block0_dw``, ``block0_project``, …).
        ema: decay of the averaged weights.
        norm_batches: batches at the end of the run from which the averaged weights take
            their BatchNorm statistics anew (Izmailov et al. 2018); 0 keeps the running ones,
            which lag behind while weights still change fast, as in a short run from nothing.
        imagenet: whether the encoder starts from ImageNet weights, for the networks on
            EfficientNet-Lite0 and B0 (the latter: Lite0's, without squeeze-excite).
        seed: of everything random.
        validation: data set judged on the way; None for none.
        validation_images: how many of it, evenly spread.
        validation_minutes: minutes between two looks at it.
        checkpoint_minutes: minutes between two checkpoints.
        augment: limits of the views.
        limit: at most so many images of each source (for probes); None for all.
    """

    network: str
    sources: tuple[SourceConfig, ...]
    size: int | tuple[int, int] = 512
    phases: tuple[Phase, ...] = (Phase(1.0, 512, 8),)
    steps: int = 5000
    minutes: float | None = None
    optimiser: str = "adamw"
    encoder_rate: float = 4e-4
    head_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup: int = 100
    schedule: str = "poly"
    power: float = 0.9
    clip: float = 5.0
    weight_cap: float = 4.0
    loss: LossConfig = field(default_factory=LossConfig)
    rare: float = 0.0
    distill: float = 0.0
    precision: str = "auto"
    freeze: tuple[str, ...] = ()
    ema: float = 0.998
    norm_batches: int = 0
    imagenet: bool = True
    seed: int = 0
    validation: SourceConfig | None = None
    validation_images: int = 60
    validation_minutes: float = 10.0
    checkpoint_minutes: float = 4.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    limit: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not self.sources:
            raise refuse("no data source given", "at least one is needed")
        for source in (*self.sources, *((self.validation,) if self.validation else ())):
            if source.kind not in ("cityscapes", "camvid"):
                raise refuse(f"unknown data kind {source.kind!r}", "allowed: cityscapes, camvid")
            if source.unions and source.kind != "camvid":
                raise refuse(f"unions of {source.kind}", "allowed: of camvid")
            if not source.share > 0:
                raise refuse(f"share {source.share} of {source.root}", "allowed: above 0")
            if not 0 <= source.bonnet < 1:
                raise refuse(f"bonnet {source.bonnet} of {source.root}", "allowed: 0 to below 1")
        if self.validation and self.validation.kind != "cityscapes":
            raise refuse(f"validation of kind {self.validation.kind}", "allowed: cityscapes")
        if not self.phases or self.phases[-1].until != 1.0:
            raise refuse("the last phase does not end at 1", "phases cover the run from 0 to 1")
        ends = [phase.until for phase in self.phases]
        if ends != sorted(set(ends)) or ends[0] <= 0:
            raise refuse(f"phases end at {ends}", "allowed: ascending numbers above 0")
        for phase in self.phases:
            if any(side <= 0 or side % 32 for side in sides(phase.crop)) or phase.batch < 2:
                raise refuse(
                    f"phase with crop {phase.crop} and batch {phase.batch}",
                    "allowed: crop a multiple of 32, batch at least 2",
                )
        check(self, "size", lambda v: min(sides(v)) >= 1, "1 or more")
        check(self, "validation_images", lambda v: v >= 1, "1 or more")
        check(self, "limit", lambda v: v is None or v >= 1, "1 or more, or null")
        check(self, "head_rate clip", lambda v: v > 0, "above 0")
        check(self, "weight_cap", lambda v: v >= 1, "1 (no weights) or more")
        from_zero = "encoder_rate weight_decay warmup power norm_batches distill"
        from_zero += " validation_minutes checkpoint_minutes"
        check(self, from_zero, lambda v: v >= 0, "0 or more")
        check(self, "rare", lambda v: 0 <= v <= 1, "0 to 1")
        check(self, "ema", lambda v: 0 <= v < 1, "0 up to below 1")
        check(self, "seed", lambda v: 0 <= v < 2**32, f"0 to {2**32 - 1}")
        if self.steps < 1 or (self.minutes is not None and not self.minutes > 0):
            raise refuse(f"run of {self.steps} steps, {self.minutes} minutes", "allowed: above 0")
        for name, allowed in (
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in allowed:
                raise refuse(
                    f"unknown {name} {getattr(self, name)!r}", f"allowed: {', '.join(allowed)}"
                )
        if self.distill and not any(source.soft for source in self.sources):
            raise refuse(f"distill {self.distill}", "at least one source marked soft is needed")

    @property
    def has_unions(self) -> bool:
        """Whether labels may name several classes at once."""
        return any(source.unions for source in self.sources)

    def phase_at(self, progress: float) -> Phase:
        """Return the phase at ``progress`` (0 to 1)."""
        return next((p for p in self.phases if progress < p.until), self.phases[-1])

    def rate_at(self, progress: float, step: int) -> float:
        """Return the factor (0 to 1) on the peak learning rates."""
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        if self.schedule == "cosine":
            return float(warm * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))
        return float(warm * max(0.0, 1.0 - progress) ** self.power)

    def to_json(self) -> str:
        """Return the run as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def is_frozen(layer: str, config: TrainConfig) -> bool:
    """Whether ``config`` keeps the layer of this name as it is."""
    return any(layer == part or layer.startswith(f"{part}_") for part in config.freeze)


def check_frozen(config: TrainConfig, layers: Sequence[str]) -> None:
    """Raise `ModelError` where ``config.freeze`` names something that is no layer."""
    for part in config.freeze:
        if not any(layer == part or layer.startswith(f"{part}_") for layer in layers):
            raise refuse(
                f"freeze {part!r}: {config.network} has no such layer",
                f"allowed: {', '.join(layers)}",
            )


def _build(kind: type[T], fields: Any, where: str) -> T:
    """Make a dataclass from a JSON object, refusing unknown and wrong fields."""
    if not isinstance(fields, dict):
        raise ModelError(f"{where}: expected an object, received {fields!r}", reason="BAD_CONFIG")
    known = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ModelError(
            f"{where}: unknown option {unknown[0]!r}. Allowed: {', '.join(known)}",
            reason="BAD_CONFIG",
        )
    try:
        return kind(**fields)
    except TypeError as error:
        raise ModelError(f"{where}: {error}", reason="BAD_CONFIG") from error


def _pair(value: Any) -> Any:
    """Return what JSON writes as a list as the tuple that it means."""
    return tuple(value) if isinstance(value, list) else value


def _build_augment(fields: Any, usual: dict[str, Any], where: str) -> AugmentConfig:
    """Make limits of views from JSON, over the ``usual`` ones."""
    if isinstance(fields, dict):
        fields = {**usual, **{name: _pair(value) for name, value in fields.items()}}
    return _build(AugmentConfig, fields, where)


def _build_phase(fields: Any, usual: dict[str, Any], where: str) -> Phase:
    """Make a phase from JSON; ``usual`` are the run's limits of views."""
    if isinstance(fields, dict):
        fields = {name: _pair(value) for name, value in fields.items()}
        if fields.get("augment") is not None:
            fields["augment"] = _build_augment(fields["augment"], usual, where)
    return _build(Phase, fields, where)


def config_from_json(text: str, where: str = "configuration") -> TrainConfig:
    """Read a run from JSON text.

    Raises:
        ModelError: not JSON, an unknown option, or a value that is not allowed.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is no JSON: {error}", reason="BAD_CONFIG") from error
    if isinstance(fields, dict):
        if "augment" in fields:
            fields["augment"] = _build_augment(fields["augment"], {}, where)
        if isinstance(fields.get("sources"), list):
            fields["sources"] = tuple(_build(SourceConfig, s, where) for s in fields["sources"])
        if isinstance(fields.get("phases"), list):
            usual = dataclasses.asdict(fields.get("augment", AugmentConfig()))
            fields["phases"] = tuple(_build_phase(p, usual, where) for p in fields["phases"])
        for name in ("freeze", "size"):
            if name in fields:
                fields[name] = _pair(fields[name])
        if fields.get("validation"):
            fields["validation"] = _build(SourceConfig, fields["validation"], where)
        if "loss" in fields:
            fields["loss"] = _build(LossConfig, fields["loss"], where)
    return _build(TrainConfig, fields, where)


def read_config(path: str | Path) -> TrainConfig:
    """Read a run from a JSON file, or by the name of one that ships.

    Raises:
        ModelError: no such file or name, or its content is not allowed.
    """
    shipped = Path(__file__).parent / "configs"
    file = Path(path)
    if not file.is_file() and (shipped / f"{path}.json").exists():
        file = shipped / f"{path}.json"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        names = ", ".join(sorted(p.stem for p in shipped.glob("*.json"))) or "none"
        raise ModelError(
            f"cannot read configuration {path}: {error.strerror}; shipped ones: {names}",
            reason="NOT_FOUND",
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is no JSON: it is not UTF-8", reason="BAD_CONFIG") from error
    return config_from_json(text, str(file))
