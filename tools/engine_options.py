"""Options of ``rt-seg-engine build`` that do not go together: an error, never without a word."""

from __future__ import annotations

import argparse

from rtseg.realtime.errors import UsageError

_GPU = ("max_batch", "workspace", "target", "timing_cache")
_INT8 = ("calib_images", "calib_method", "calib_percentile", "calib_cache", "keep_fp16")


def check_options(options: argparse.Namespace) -> None:
    """Raise where an option was given that would change nothing.

    Args:
        options: as parsed, with ``default_of``, which returns the default of a name; a
            ``precision`` that was not given is None.

    Raises:
        UsageError: names the option and what it needs.
    """
    gpu = options.backend != "openvino"
    precision = options.precision or ("fp16" if gpu else "int8")
    if not gpu:
        _refuse(options, _GPU, "is for an engine of a GPU: --backend tensorrt or rtx")
    if options.backend == "rtx":
        _refuse(options, ("timing_cache",), "is for --backend tensorrt")
    if precision != "int8":
        _refuse(options, _INT8, f"is for --precision int8. Received: {precision}")
    if gpu and precision == "fp32":
        _refuse(options, ("calib_data",), "is for --precision int8 and fp16. Received: fp32")
    if options.calib_method != "percentile":
        _refuse(options, ("calib_percentile",), "is for --calib-method percentile")
    if options.verify is None:
        needed = "needs labelled images: --verify DATA"
        _refuse(options, ("max_drop", "verify_images"), needed)


def _refuse(options: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(options, name) != options.default_of(name):
            raise UsageError(f"--{name.replace('_', '-')} {why}")
