"""Makes every engine file that ships, and the table of measured points, from trained weights.

    python -m rtseg.tools.ship_networks models/weights/espnet-lite.weights.h5 --data DATA

For each quality: the weights are exported at its size, quantised to INT8 with training images,
judged on validation images (FP32 and INT8, class ids at the labels' size), and timed. Of FP32
only the default size ships; the others are INT8. Files are replaced once all of them are made and
written.
Times need an idle machine: ``--time-only`` takes them again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtseg.engines.quality import DEFAULT_QUALITY, FILE_NAME, QUALITIES
from rtseg.engines.shipped import shipped_models
from rtseg.engines.wholefile import replacing, write_whole
from rtseg.realtime.argument_values import input_size

MOST_MIB = 25.0
"""What all shipped weights together may take."""

SIZES = {"fast": (448, 352), "balanced": (640, 480), "best": (768, 576)}
CALIBRATION = ("cityscapes-512x256", "cityscapes-2048x1024", "unlabelled-1024x512")
VALIDATION = "cityscapes-512x256"


@dataclass(frozen=True)
class Made:
    """Files and figures of one size."""

    quality: str
    fp32: Path
    int8: Path
    point: dict[str, Any]


def run(module: str, *arguments: str) -> str:
    """Run one of this package's commands in a process of its own and return what it prints.

    Raises:
        SystemExit: it failed.
    """
    code = f"import sys; from rtseg.tools.{module} import main; sys.exit(main())"
    print(f"$ {module} {' '.join(arguments)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{module} failed ({done.returncode})")
    return done.stdout


def make(quality: str, options: argparse.Namespace, folder: Path) -> Made:
    """Export, quantise, judge and time one size."""
    width, height = getattr(options, quality)
    stem = f"{options.network}-{width}x{height}"
    fp32, int8 = folder / f"{stem}-fp32.onnx", folder / f"{stem}-int8.onnx"
    size = f"{width}x{height}"
    run(
        *("rt_seg_model", "export", str(options.weights), str(fp32)),
        *("--network", options.network, "--size", size, "-y"),
    )
    roots = [part for name in CALIBRATION for part in ("--calib-data", str(options.data / name))]
    limit = ["--verify-images", str(options.images)] if options.images else []
    built = json.loads(
        run(
            *("rt_seg_engine", "build", str(fp32), "-o", str(int8), "--json", "--force"),
            *("--calib-images", str(options.calib_images), *roots),
            *("--verify", str(options.data / VALIDATION), *limit),
            *("--threads", str(options.threads)),
        )
    )
    timed = time_of(int8, options.seconds)
    judged = built["verify"]
    point = {
        "size": [width, height],
        "miou": round(100 * judged["int8"]["miou"], 2),
        "pixel_accuracy": round(100 * judged["int8"]["pixel_accuracy"], 2),
        "miou_fp32": round(100 * judged["fp32"]["miou"], 2),
        "images": judged["images"],
        **timed,
    }
    print(json.dumps({quality: point}), file=sys.stderr, flush=True)
    return Made(quality, fp32, int8, point)


def time_of(file: Path, seconds: float) -> dict[str, float]:
    """Return CPU time a frame with all requests in flight, and one frame's latency, in ms."""
    from rtseg.engines.registry import open_engine
    from rtseg.realtime.quality import probe_engine

    with open_engine(file, mode="throughput") as engine:
        busy = probe_engine(engine, in_flight=engine.requests, seconds=seconds)
    with open_engine(file, mode="latency") as engine:
        alone = probe_engine(engine, in_flight=1, seconds=seconds)
    return {
        "cpu_ms": round(busy.cpu_ms, 2),
        "fps": round(busy.fps, 1),
        "latency_ms": round(1e3 / alone.fps, 1),
    }


def ship(made: Sequence[Made], options: argparse.Namespace, folder: Path) -> None:
    """Put the files in place, with the table; what shipped before under that name goes.

    Raises:
        SystemExit: together they are larger than a wheel may be, or they cannot be written.
    """
    from rtseg.engines.threads import available_cores
    from rtseg.engines.versions import version_of
    from rtseg.realtime import environment

    files = [one.int8 for one in made]
    files += [one.fp32 for one in made if one.quality == DEFAULT_QUALITY]
    mib = sum(file.stat().st_size for file in files) / 2**20
    if mib > MOST_MIB:
        raise SystemExit(f"{mib:.1f} MiB of weights. Allowed: {MOST_MIB:g}")
    table = folder / FILE_NAME
    entries = json.loads(table.read_text(encoding="utf-8")) if table.exists() else {}
    entries[options.network] = {
        "measured": {
            "machine": f"{environment.cpu_name()}, {available_cores()} cores",
            "openvino": version_of("openvino"),
            "validation": VALIDATION,
        },
        "levels": {one.quality: one.point for one in made},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:  # replaces them, the table last, once all are written
            stack.enter_context(replacing(table)).write_text(as_text(entries), encoding="utf-8")
            for file in files:
                partial = stack.enter_context(replacing(folder / file.name))
                partial.write_bytes(file.read_bytes())
    except OSError as error:
        raise SystemExit(f"cannot write into {folder}: {error.strerror or error}") from error
    names = {file.name for file in files}
    for model in shipped_models(folder):
        if model.name == options.network and model.path.name not in names:
            model.path.unlink()
    print(f"{len(files)} files, {mib:.1f} MiB, {table}")


def as_text(entries: dict[str, Any]) -> str:
    """Return the table as it is kept."""
    return json.dumps(entries, indent=2) + "\n"


def retime(options: argparse.Namespace, folder: Path) -> None:
    """Time the files that ship and write that into the table; nothing else changes.

    Raises:
        SystemExit: there is no table yet.
    """
    table = folder / FILE_NAME
    if not table.exists():
        raise SystemExit(f"{table} is not there yet: leave --time-only out")
    entries = json.loads(table.read_text(encoding="utf-8"))
    for quality, point in entries[options.network]["levels"].items():
        width, height = point["size"]
        file = folder / f"{options.network}-{width}x{height}-int8.onnx"
        point.update(time_of(file, options.seconds))
        print(quality, json.dumps(point))
    write_whole(table, as_text(entries).encode())


def _size(text: str) -> tuple[int, int]:
    width, height = input_size(text)
    if width % 32 or height % 32 or min(width, height) < 32:
        raise argparse.ArgumentTypeError(f"sides are multiples of 32. Received: {text}")
    return width, height


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m rtseg.tools.ship_networks",
        description="Make every shipped engine file and the quality table from trained weights.",
    )
    parser.add_argument("weights", type=Path, help="a .weights.h5 file")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--network", default="espnet-lite", help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="folder (default: that of the weights)")
    for quality in QUALITIES:
        width, height = SIZES[quality]
        parser.add_argument(
            f"--{quality}",
            type=_size,
            default=(width, height),
            metavar="WxH",
            help=f"({width}x{height})",
        )
    parser.add_argument("--only", choices=QUALITIES, action="append", help="try some, ship none")
    parser.add_argument(
        "--time-only", action="store_true", help="time the shipped files again, make none"
    )
    parser.add_argument("--calib-images", type=int, default=128, help="(%(default)s)")
    parser.add_argument("--images", type=int, help="judge on N, evenly spread (default: all)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="for calibration (%(default)s)")
    options = parser.parse_args(arguments)
    folder = options.out or options.weights.parent
    if options.time_only:
        retime(options, folder)
        return
    with tempfile.TemporaryDirectory() as name:
        made = [make(quality, options, Path(name)) for quality in options.only or QUALITIES]
        if not options.only:
            ship(made, options, folder)


if __name__ == "__main__":
    main()
