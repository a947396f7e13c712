"""INT8 post-training quantisation: one FP32 ONNX in, one explicit Q/DQ ONNX out.

The result runs in int8 on OpenVINO and builds on TensorRT as it is; see
:mod:`rtseg.calibration.qdq` for its form.
"""

from __future__ import annotations

import fnmatch
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.cache import CalibrationCache, write_atomically
from rtseg.calibration.calibration_set import CalibrationSet
from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.methods import METHODS, PERCENTILE
from rtseg.calibration.network import FloatNetwork, load_network
from rtseg.calibration.observe import Progress, channel_means, observe
from rtseg.calibration.qdq import LeftOut, always_float, insert_qdq, tensors_to_quantise
from rtseg.calibration.sensitivity import Reference, Sensitivity, scan
from rtseg.calibration.thresholds import check_method, threshold
from rtseg.engines.deployable import set_description
from rtseg.engines.spec import EngineSpec

CHECK_IMAGES = 16
"""Calibration images on which INT8 is compared with FP32."""

BIAS_IMAGES = 64
"""Calibration images that the means for the biases are taken from."""

SCAN_IMAGES = 8
"""Calibration images on which each convolution is tried alone."""

AUTO_NOISE = 0.001
"""``keep_fp32="auto"``: the noise of all that is quantised stays below this share of the
logits' power, as far as the noises of the single convolutions add up."""

AUTO_SHARE = 0.2
"""``keep_fp32="auto"`` leaves no more than this share of the convolutions in float."""


@dataclass(frozen=True)
class QuantisationReport:
    """What was done.

    Attributes:
        output: the file written.
        spec: what it says of itself.
        quantised: names of the convolutions in int8.
        left_out: those in float, each with its reason.
        thresholds: magnitude of code 127 of each quantised tensor.
        saturated: share of each tensor's values beyond it, 0 to 1; empty where the
            thresholds came from a cache.
        check: disagreement with FP32 on some of the calibration images.
        sensitivity: the scan, the most sensitive first; empty where none was asked for.
        cache: ``none``, ``used``, ``written``, or why a cache was refused and rewritten.
        seconds: wall time.
    """

    output: Path
    spec: EngineSpec
    quantised: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    thresholds: dict[str, float]
    saturated: dict[str, float]
    check: Sensitivity
    sensitivity: tuple[Sensitivity, ...]
    cache: str
    seconds: float


def quantise_onnx(
    source: Path,
    images: CalibrationSet,
    output: Path,
    *,
    method: str = "mse",
    percentile: float = PERCENTILE,
    keep_fp32: Sequence[str] | int | str = (),
    cache: Path | None = None,
    spec: EngineSpec | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> QuantisationReport:
    """Quantise a network to INT8.

    Args:
        source: FP32 ONNX network with a description in its metadata.
        images: the calibration set; real images of the network's domain.
        output: the file to write; replaced at once when it is complete.
        method: ``mse``, ``percentile``, ``entropy`` or ``minmax``; see
            :func:`rtseg.calibration.thresholds.threshold`.
        percentile: for ``percentile``, share of the values that do not saturate, in %.
        keep_fp32: convolutions to leave in float: names or patterns (``block0_*``), or how
            many of the most sensitive, or ``"auto"``: as few of the most sensitive as bring
            the noise of the others below :data:`AUTO_NOISE`.
        cache: calibration cache to use, and to write where it does not fit.
        spec: description of a network that carries none of its own.
        size: width and height in pixels, for a network that takes any.
        threads: CPU threads; the result is the same file only for the same number.
        progress: told how far it is.

    Raises:
        CalibrationError: see its reason words; the output is untouched.

    Example:
        >>> images = select_images("cityscapes", 512)                  # doctest: +SKIP
        >>> report = quantise_onnx(Path("net.onnx"), images, Path("net-int8.onnx"))
        ... # doctest: +SKIP
    """
    started = time.perf_counter()
    check_method(method, percentile)
    network = load_network(source, spec=spec, size=size)
    fixed = always_float(network)
    candidates = tuple(n for n in network.convs if n not in {left.name for left in fixed})
    asked = tuple(LeftOut(n, "asked for") for n in _asked_for(keep_fp32, network))
    pool = tuple(n for n in candidates if n not in {left.name for left in asked})
    if not pool:
        why = ", ".join(f"{left.name} ({left.reason})" for left in (*fixed, *asked)[:4])
        raise CalibrationError(
            f"{source} has no convolution left to quantise: {why}",
            reason="BAD_OPTION" if asked else "BAD_NETWORK",
        )
    thresholds, saturated, cache_note = _thresholds(
        network, images, candidates, method, percentile, cache, threads, progress
    )

    shape = network.spec.height, network.spec.width, network.spec.fit
    means = _means(network, images, pool, threads, progress)
    checked = list(images.subset(CHECK_IMAGES).frames(*shape))
    reference = Reference(network, checked, threads=threads)
    sensitivity: tuple[Sensitivity, ...] = ()
    if keep_fp32 == "auto" or (isinstance(keep_fp32, int) and keep_fp32):
        few = list(images.subset(SCAN_IMAGES).frames(*shape))
        scanned = Reference(network, few, threads=threads)
        sensitivity = scan(network, scanned, pool, thresholds, means, progress=progress)
    number = keep_fp32 if isinstance(keep_fp32, int) else _fewest(sensitivity)
    kept = tuple(LeftOut(found.name, "sensitive") for found in sensitivity[:number])
    quantised = tuple(n for n in pool if n not in {left.name for left in kept})
    if not quantised:
        raise CalibrationError(
            f"all {len(pool)} convolutions that can be quantised would stay in float: keep fewer",
            reason="BAD_OPTION",
        )
    model = insert_qdq(network, quantised, thresholds, means)
    check = reference.compare(model, "INT8")

    left_out = (*fixed, *asked, *kept)
    described = _describe(network, images, method, percentile, left_out)
    set_description(model, described)
    write_atomically(output, model.SerializeToString(deterministic=True))
    used = tensors_to_quantise(network, quantised)
    return QuantisationReport(
        output=output,
        spec=described,
        quantised=quantised,
        left_out=left_out,
        thresholds={name: thresholds[name] for name in used},
        saturated={name: saturated[name] for name in used if name in saturated},
        check=check,
        sensitivity=sensitivity,
        cache=cache_note,
        seconds=time.perf_counter() - started,
    )


def _fewest(sensitivity: Sequence[Sensitivity]) -> int:
    """How many of the most sensitive must stay in float, for ``auto``."""
    most = int(AUTO_SHARE * len(sensitivity))
    for number in range(most):
        if sum(found.noise for found in sensitivity[number:]) <= AUTO_NOISE:
            return number
    return most


def _key(method: str, percentile: float) -> str:
    return f"percentile:{percentile:g}" if method == "percentile" else method


def _asked_for(keep: Sequence[str] | int | str, network: FloatNetwork) -> tuple[str, ...]:
    """The convolutions that names and patterns stand for."""
    if isinstance(keep, int):
        if not 0 <= keep <= len(network.convs):
            raise CalibrationError(
                f"{keep} convolutions cannot stay in float; allowed: 0 to {len(network.convs)}",
                reason="BAD_OPTION",
            )
        return ()
    if isinstance(keep, str):
        if keep == "auto":
            return ()
        keep = [part.strip() for part in keep.split(",") if part.strip()]
    found: dict[str, None] = {}
    for pattern in keep:
        matches = fnmatch.filter(network.convs, pattern)
        if not matches:
            raise CalibrationError(
                f"no convolution is called {pattern!r}. Known, among others: "
                f"{', '.join(network.convs[:4])}",
                reason="BAD_OPTION",
            )
        found.update(dict.fromkeys(matches))
    return tuple(found)


def _thresholds(
    network: FloatNetwork,
    images: CalibrationSet,
    convs: Sequence[str],
    method: str,
    percentile: float,
    path: Path | None,
    threads: int,
    progress: Progress | None,
) -> tuple[dict[str, float], dict[str, float], str]:
    """Take the thresholds from the cache, or from the images; the saturation, and a note."""
    key = _key(method, percentile)
    tensors = tensors_to_quantise(network, convs)
    fresh = CalibrationCache(network.sha256, images.sha256(), len(images), images.seed)
    note = "none" if path is None else "written"
    if path is not None and path.exists():
        try:
            known = CalibrationCache.load(path)
            known.check(fresh, key, tensors)
            return known.thresholds[key], {}, "used"
        except CalibrationError as error:
            note = f"{error}; calibrated anew"
    spec = network.spec
    histograms = observe(
        network,
        lambda: images.frames(spec.height, spec.width, spec.fit),
        tensors,
        total=len(images),
        threads=threads,
        progress=progress,
    )
    found = {
        _key(each, percentile): {
            name: threshold(histogram, each, percentile=percentile)
            for name, histogram in histograms.items()
        }
        for each in METHODS
    }
    if path is not None:
        replace(fresh, thresholds=found).save(path)
    saturated = {name: h.share_above(found[key][name]) for name, h in histograms.items()}
    return found[key], saturated, note


def _means(
    network: FloatNetwork,
    images: CalibrationSet,
    convs: Sequence[str],
    threads: int,
    progress: Progress | None,
) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each channel of the convolutions' inputs, on some of the images."""
    spec = network.spec
    inputs = {node.input[0]: None for node in network.model.graph.node if node.name in convs}
    some = images.subset(BIAS_IMAGES)
    return channel_means(
        network,
        lambda: some.frames(spec.height, spec.width, spec.fit),
        tuple(inputs),
        total=len(some),
        threads=threads,
        progress=progress,
    )


def _describe(
    network: FloatNetwork,
    images: CalibrationSet,
    method: str,
    percentile: float,
    left_out: Sequence[LeftOut],
) -> EngineSpec:
    key = _key(method, percentile)
    images_sha256 = images.sha256()
    bias = f"bias:{BIAS_IMAGES}"
    record = "\n".join([network.sha256, images_sha256, key, str(images.seed), bias])
    return replace(
        network.spec,
        precision="int8",
        source_sha256=network.spec.source_sha256 or network.sha256,
        calibration_sha256=hashlib.sha256(record.encode()).hexdigest(),
        extra={
            **network.spec.extra,
            "fp32_sha256": network.sha256,
            "calib_method": key,
            "calib_images": str(len(images)),
            "calib_seed": str(images.seed),
            "bias_images": str(min(BIAS_IMAGES, len(images))),
            "float_layers": ", ".join(f"{left.name} ({left.reason})" for left in left_out),
        },
    )
