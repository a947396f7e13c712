"""FP16 tried on the user's own frames, before an engine is built of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtseg.engines.engine import U8
    from rtseg.tools.step_progress import Progress

TRIED = 8
"""Frames; an overflow that a street causes shows on most of them."""


def try_half(
    options: argparse.Namespace, source: Path, size: tuple[int, int] | None, show: Progress
) -> dict[str, Any]:
    """Run a network and its FP16 form on frames of ``--calib-data``; return what was seen.

    Args:
        options: of ``rt-seg-engine build``.
        source: the network that is to be converted.
        size: width and height, for a network that takes any.
        show: told how far it is.

    Returns:
        The fields of :class:`rtseg.calibration.half_check.HalfCheck`, or ``note`` with the
        reason why nothing was tried.

    Raises:
        CalibrationError: ``BAD_ACTIVATIONS`` where FP16 does not hold what passes through.
        EngineError: the network cannot be read or converted.
    """
    if not options.calib_data:
        return {"note": "no; --calib-data names frames to try it on"}
    if find_spec("onnxruntime") is None:
        return {"note": "no; it needs pip install rt-seg[onnxruntime]"}
    from rtseg.calibration.calibration_set import select_images
    from rtseg.calibration.half_check import check_half
    from rtseg.engines.convert_fp16 import to_fp16
    from rtseg.engines.deployable import read_deployable

    network = read_deployable(source, size)
    spec = replace(network.spec, input_kind="uint8_nhwc_rgb")
    images = select_images(options.calib_data, TRIED, seed=options.calib_seed)

    def frames() -> Iterator[U8]:
        for number, frame in enumerate(images.frames(spec.height, spec.width, spec.fit), start=1):
            yield frame
            show("try FP16", number, len(images))

    half = to_fp16(network.model)
    return asdict(check_half(network.model, half, spec, frames(), threads=options.threads))


def half_line(tried: dict[str, Any]) -> str:
    """Return what was seen, for people."""
    if "note" in tried:
        return str(tried["note"])
    return (
        f"on {tried['frames']} frames: {tried['agreement']:.2%} of the pixels as before, largest "
        f"value {tried['largest']:.4g} of 65504 ({tried['largest_at']})"
    )
