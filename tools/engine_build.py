"""``rt-seg-engine build``: an INT8 or FP16 network, or a GPU's engine, from an FP32 network."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.calibration.methods import METHODS, PERCENTILE
from rtseg.engines.lookup import is_file, is_folder, is_there
from rtseg.realtime.argument_values import number
from rtseg.tools.argument_types import count, count_from_zero, wide_first
from rtseg.tools.engine_half import half_line, try_half
from rtseg.tools.engine_options import check_options
from rtseg.tools.engine_plan import add_plan_options, build_for_gpu
from rtseg.tools.step_progress import Progress

if TYPE_CHECKING:
    from rtseg.calibration.cityscapes import Sample
    from rtseg.calibration.quantise import QuantisationReport
    from rtseg.calibration.verify import Verdict


def add_build_parser(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the subcommand ``build`` to those of ``rt-seg-engine``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "build",
        parents=[shared],
        help="make an INT8 or FP16 engine file, or one for a GPU",
        description="Quantise a network to INT8: one ONNX file with Q/DQ nodes that OpenVINO "
        "runs in INT8 on a CPU and TensorRT builds for a GPU. Or give it FP16 types, in which "
        "TensorRT computes. Or, with --backend, build TensorRT's engine of it, which is kept in "
        "the cache and found again.",
    )
    parser.add_argument(
        "file", nargs="?", type=Path, help="FP32 ONNX network (default: the shipped --model)"
    )
    parser.add_argument("--model", default="espnet-lite", help="a shipped network (%(default)s)")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="to write (default: NAME-PRECISION.onnx; for a GPU a file in the cache)",
    )
    parser.add_argument(
        "--precision",
        choices=("int8", "fp16", "fp32"),
        help="(int8; for a GPU fp16; fp32 is for a GPU only)",
    )
    add_plan_options(parser)
    parser.add_argument(
        "--calib-data",
        type=Path,
        action="append",
        metavar="ROOT",
        help="Cityscapes root, folder of images or videos, or video of your own scene; repeatable; "
        "INT8 needs one, FP16 is tried on it",
    )
    add = parser.add_argument
    add("--calib-images", type=count, default=512, metavar="N", help="(%(default)s)")
    add("--calib-method", choices=METHODS, default="mse", help="(%(default)s)")
    add(
        "--calib-percentile",
        type=float,
        default=PERCENTILE,
        metavar="PERCENT",
        help="share of the values that do not saturate, for percentile (%(default)s)",
    )
    add(
        "--calib-seed",
        type=count_from_zero,
        default=0,
        metavar="N",
        help="of the choice (%(default)s)",
    )
    add("--calib-cache", type=Path, metavar="FILE", help="used where it fits, else written")
    parser.add_argument(
        "--keep-fp16",
        default="",
        metavar="LAYERS",
        help="convolutions that stay in floating point: names or patterns separated by commas, "
        "how many of the most sensitive, or auto",
    )
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="DATA",
        help="labelled Cityscapes root; ends with the mIoU of FP32 and INT8",
    )
    parser.add_argument(
        "--max-drop",
        type=number(float, 0),
        metavar="POINTS",
        help="with --verify: mIoU that may be lost against FP32; otherwise the build fails and "
        "writes nothing",
    )
    parser.add_argument("--verify-images", type=count, metavar="N", help="default: all")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="(%(default)s)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(default_of=parser.get_default)


def build(options: argparse.Namespace) -> None:
    """Run ``rt-seg-engine build``.

    Raises:
        CalibrationError: what was asked for cannot be done, or ``ACCURACY_DROP``.
        EngineError: no such network, or it cannot be run.
        UsageError: options that do not go together.
    """
    from rtseg.calibration.errors import CalibrationError

    check_options(options)
    show = Progress(quiet=options.quiet or options.json)
    if options.backend != "openvino":
        build_for_gpu(options, show)
        return
    options.precision = options.precision or "int8"
    if options.precision == "fp32":
        raise CalibrationError(
            "OpenVINO runs the FP32 network as it is: nothing to build. Allowed: int8, fp16",
            reason="BAD_OPTION",
        )
    source = options.file or shipped_fp32(options.model)
    if not is_file(source):
        raise CalibrationError(f"no such network: {source}", reason="NOT_FOUND")
    output = options.out or Path(_named(source.name, options.precision))
    if not is_folder(output.parent) or is_folder(output):
        what = f"{output} is a folder" if output.is_dir() else f"no such folder: {output.parent}"
        raise CalibrationError(f"{what}; --out names a file", reason="NOT_FOUND")
    if options.precision == "int8" and not options.calib_data:
        raise CalibrationError(
            "INT8 needs images of the network's domain: --calib-data ROOT (a Cityscapes root, a "
            "folder of images or videos, or a video)",
            reason="BAD_OPTION",
        )
    if is_there(output) and not options.force:
        raise CalibrationError(
            f"{output} exists; --force replaces it, --out names another", reason="BAD_OPTION"
        )
    if is_there(output) and output.samefile(source):
        raise CalibrationError(
            f"{output} is the network itself; --out names another file", reason="BAD_OPTION"
        )
    # Before the work: a wrong folder, or a network that cannot be judged, shows at once.
    if options.calib_cache is not None and not options.calib_cache.absolute().parent.is_dir():
        raise CalibrationError(
            f"no such folder: {options.calib_cache.parent}; --calib-cache names a file",
            reason="NOT_FOUND",
        )
    samples = _samples(options)
    if samples:
        _check_classes(source, wide_first(options.size))
    if samples and options.precision == "fp16":
        from rtseg.engines.onnxfile import is_quantised, load_onnx

        if is_quantised(load_onnx(source)):
            raise CalibrationError(
                f"--verify compares with the FP32 network, {source} is INT8: leave it out, or "
                "judge the new file with rt-seg-model evaluate",
                reason="BAD_OPTION",
            )
    if options.max_drop is None:
        record = _make(options, source, output, samples, show)
    else:
        record = _make_proven(options, source, output, samples, show)
    show.done()
    print(json.dumps(record, indent=2) if options.json else _text(record))
    if "refused" in record:
        raise CalibrationError(record["refused"], reason="ACCURACY_DROP")


def _make(
    options: argparse.Namespace,
    source: Path,
    output: Path,
    samples: list[Sample],
    show: Progress,
) -> dict[str, Any]:
    """Write the file, verify it where there are labelled images, and return the record."""
    if options.precision == "fp16":
        from rtseg.engines.convert_fp16 import convert_fp16

        tried = try_half(options, source, wide_first(options.size), show)
        convert_fp16(source, output, wide_first(options.size))
        record: dict[str, Any] = {**_written(source, output), "fp16_tried": tried}
    else:
        record = quantise(options, source, output, show)
    if samples:
        record["verify"] = _compare(options, source, output, samples, show)
    return record


def _make_proven(
    options: argparse.Namespace,
    source: Path,
    output: Path,
    samples: list[Sample],
    show: Progress,
) -> dict[str, Any]:
    """Write the file only where it loses no more than ``--max-drop``; one there is kept."""
    unproven = output.with_name(f".{output.name}.{os.getpid()}.unproven")
    try:
        record = _make(options, source, unproven, samples, show)
        record["output"] = str(output)
        drop = -_difference(record["verify"])
        record["max_drop"] = options.max_drop
        if drop <= options.max_drop:
            unproven.replace(output)
        else:
            record["output"] = None
            better = {
                "int8": "; --keep-fp16 auto, more --calib-images or another --calib-method may help"
            }
            record["refused"] = (
                f"{options.precision.upper()} loses {drop:.2f} points of mIoU against FP32, "
                f"--max-drop allows {options.max_drop:g}: {output} is not written"
                f"{better.get(options.precision, '')}"
            )
    finally:
        unproven.unlink(missing_ok=True)
    return record


def quantise(
    options: argparse.Namespace, source: Path, output: Path, show: Progress
) -> dict[str, Any]:
    """Write the INT8 form of a network; return the record of what was done."""
    from rtseg.calibration.calibration_set import select_images
    from rtseg.calibration.quantise import quantise_onnx

    images = select_images(options.calib_data, options.calib_images, seed=options.calib_seed)
    if len(images) < options.calib_images and not (options.quiet or options.json):
        print(
            f"rt-seg-engine: warning: {options.calib_images} images were asked for, there are "
            f"{len(images)}: calibrated on all of them",
            file=sys.stderr,
        )
    keep = options.keep_fp16
    report = quantise_onnx(
        source,
        images,
        output,
        method=options.calib_method,
        percentile=options.calib_percentile,
        keep_fp32=int(keep) if keep.isdecimal() else keep,
        cache=options.calib_cache,
        size=wide_first(options.size),
        threads=options.threads,
        progress=show,
    )
    return _record(source, len(images), images.available, report)


def _compare(
    options: argparse.Namespace,
    source: Path,
    output: Path,
    samples: list[Sample],
    show: Progress,
) -> dict[str, Any]:
    """Run source and output over labelled images; IoU and shares are 0 to 1."""
    from rtseg.engines.errors import EngineError

    verdicts: dict[str, Verdict] = {}
    for precision, file in (("fp32", source), ("bf16", source), (options.precision, output)):
        # A CPU without FP16 shows what its FP16 types do in FP32.
        arithmetic = "fp32" if precision == "fp16" else precision
        try:
            verdicts[precision] = _verify(options, file, arithmetic, samples, show)
        except EngineError as error:
            if precision != "bf16" or error.reason != "ENGINE_UNSUPPORTED":
                raise
    return {
        "images": len(samples),
        **{
            name: {
                "miou": verdict.scores.mean_iou,
                "pixel_accuracy": verdict.scores.pixel_accuracy,
                "agreement_with_fp32": verdict.agreement(verdicts["fp32"]),
            }
            for name, verdict in verdicts.items()
        },
    }


def shipped_fp32(name: str) -> Path:
    """Return the file of a shipped network."""
    from rtseg.engines.shipped import choose_model, shipped_models

    return choose_model(shipped_models(), name, "fp32").path


def _named(name: str, precision: str) -> str:
    return f"{name.removesuffix('.onnx').removesuffix('-fp32')}-{precision}.onnx"


def _check_classes(source: Path, size: tuple[int, int] | None) -> None:
    """Refuse a network without Cityscapes' classes."""
    from rtseg.calibration.verify import cityscapes_table
    from rtseg.engines.adapt import adapt_onnx

    cityscapes_table(adapt_onnx(source, size).spec.classes)


def _samples(options: argparse.Namespace) -> list[Sample]:
    if options.verify is None:
        return []
    from rtseg.calibration.cityscapes import find_samples

    samples = find_samples(options.verify, "val")
    if options.verify_images and options.verify_images < len(samples):
        step = len(samples) / options.verify_images
        samples = [samples[int(n * step)] for n in range(options.verify_images)]
    return samples


def _verify(
    options: argparse.Namespace,
    file: Path,
    precision: str,
    samples: list[Sample],
    show: Progress,
) -> Verdict:
    from rtseg.calibration.verify import verify_engine
    from rtseg.engines.registry import open_engine

    def progress(step: str, done: int, total: int) -> None:
        show(f"{step} {precision}", done, total)

    with open_engine(
        file,
        backend="openvino",
        precision=precision,
        threads=options.threads,
        size=wide_first(options.size),
    ) as engine:
        return verify_engine(engine, samples, progress=progress)


def _written(source: Path, output: Path) -> dict[str, Any]:
    return {"source": str(source), "output": str(output), "bytes": output.stat().st_size}


def _record(
    source: Path, images: int, available: int, report: QuantisationReport
) -> dict[str, Any]:
    """What the command says at its end, as JSON would have it; shares are 0 to 1."""
    return {
        **_written(source, report.output),
        "method": report.spec.extra["calib_method"],
        "images": images,
        "images_available": available,
        "cache": report.cache,
        "calibration_sha256": report.spec.calibration_sha256,
        "int8_convolutions": len(report.quantised),
        "float_convolutions": {left.name: left.reason for left in report.left_out},
        "agreement_on_calibration_images": 1 - report.check.disagreement,
        "sensitivity": [
            {"name": s.name, "noise": s.noise, "disagreement": s.disagreement}
            for s in report.sensitivity
        ],
        "seconds": report.seconds,
    }


def _text(record: dict[str, Any]) -> str:
    rows = {
        "written": f"{record['output'] or 'nothing'} ({record['bytes'] / 1e6:.1f} MB)",
        "from": record["source"],
    }
    if "method" in record:
        rows["calibrated"] = (
            f"{record['method']}, {record['images']} of {record['images_available']} images, "
            f"{record['seconds']:.0f} s"
        )
        rows["cache"] = "" if record["cache"] == "none" else record["cache"]
        rows["int8"] = f"{record['int8_convolutions']} convolutions"
        left_out = record["float_convolutions"].items()
        rows["float"] = ", ".join(f"{name} ({why})" for name, why in left_out)
        rows["agreement"] = (
            f"{record['agreement_on_calibration_images']:.2%} of the pixels with FP32, on "
            "calibration images"
        )
        for number, found in enumerate(record["sensitivity"][:8]):
            rows["sensitive" if number == 0 else " " * number] = (
                f"{found['name']}: {found['disagreement']:.2%} of the pixels change"
            )
    if "fp16_tried" in record:
        rows["FP16 tried"] = half_line(record["fp16_tried"])
    lines = [f"{name.strip():<11}{value}" for name, value in rows.items() if value]
    if "verify" in record:
        lines += _verified(record["verify"])
    return "\n".join(lines)


def _verified(verify: dict[str, Any]) -> list[str]:
    lines = [f"verified   on {verify['images']} images"]
    names = [name for name in verify if name != "images"]
    for name in names:
        row = verify[name]
        lines.append(
            f"  {name}  mIoU {row['miou']:.2%}  pixels {row['pixel_accuracy']:.2%}  "
            f"same class as FP32 {row['agreement_with_fp32']:.2%}"
        )
    lines.append(f"  {names[-1].upper()} - FP32: {_difference(verify):+.2f} points mIoU")
    return lines


def _difference(verify: dict[str, Any]) -> float:
    """Return what the file has more than FP32, in points of mIoU."""
    last = [name for name in verify if name != "images"][-1]
    return 100.0 * float(verify[last]["miou"] - verify["fp32"]["miou"])
