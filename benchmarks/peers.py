"""Other people's loops on the same clip, end to end with the output written, beside ``rt-seg``.

Each peer gets an environment of its own under ``--folder`` (made on the first run, from the
package index) and runs there as a process of its own: installed, run and timed, nothing else.
Its clock runs from the first frame asked for to the output closed, models loaded and warm; peak
memory is that of the process.

    python benchmarks/peers.py [--clip FILE] [--runs 3] [--laps 4] [--only NAME]… [--plot FILE.svg]
                               [--ultralytics yolo26n-sem.pt]

With the same network, to the bit of its file: ``rt-seg`` also runs what Ultralytics exports for
OpenVINO, and, quantised by ``rt-seg-engine build`` with frames of the clip, its ONNX file.

The loops of the peers are in ``benchmarks/peer_loops``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from common import clip_or_generated, machine, rt_seg, shipped_file
from peer_plot import bars

from rtseg.engines.labels import CITYSCAPES

LOOPS = Path(__file__).with_name("peer_loops")


@dataclass(frozen=True)
class Peer:
    """A loop of somebody else's and how it is run.

    Attributes:
        name: for people.
        environment: key of :data:`ENVIRONMENTS`.
        script: file in ``peer_loops``.
        network: ``fp32``, ``int8`` (the shipped files), ``int8-logits`` or ``int8-scores`` (the
            same network without its last steps, where the peer wants to do them); empty for
            one of the peer's own.
        tuned: whether it runs with what its makers offer for speed, or with its defaults.
    """

    name: str
    environment: str
    script: str
    network: str
    tuned: bool


ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "naive": ("opencv-python-headless", "onnxruntime"),
    "model_api": ("openvino-model-api[onnx]", "openvino", "onnx"),
    "supervision": ("supervision", "openvino", "opencv-python-headless"),
    "ultralytics": ("ultralytics", "openvino", "onnx", "onnxslim", "nncf"),
}
"""Packages of each environment, from the package index."""

PEERS: tuple[Peer, ...] = (
    Peer("OpenCV + ONNX Runtime, defaults", "naive", "naive.py", "fp32", False),
    Peer("OpenCV + ONNX Runtime, tuned", "naive", "naive.py", "fp32", True),
    Peer("model_api, defaults", "model_api", "model_api_loop.py", "int8-logits", False),
    Peer("model_api, tuned", "model_api", "model_api_loop.py", "int8-logits", True),
    Peer("model_api, tuned, coarse", "model_api", "model_api_loop.py", "int8-scores", True),
    Peer("supervision, defaults", "supervision", "supervision_loop.py", "int8", False),
    Peer("supervision, tuned", "supervision", "supervision_loop.py", "int8", True),
    Peer("Ultralytics yolo26n-sem 512", "ultralytics", "ultralytics_loop.py", "", False),
    Peer("Ultralytics yolo26n-sem 512 INT8", "ultralytics", "ultralytics_loop.py", "", True),
)

OURS = {"rt-seg, INT8": ("--precision", "int8"), "rt-seg, FP32": ("--precision", "fp32")}
THEIRS = "rt-seg, yolo26n-sem 512"
THEIRS_INT8 = "rt-seg, yolo26n-sem 512 INT8"
SIZE = 512
"""Width and height of Ultralytics' network, in pixels."""


def environment_of(peer: Peer, folder: Path) -> Path:
    """Return the Python of a peer's environment, making it first where it is missing.

    Raises:
        SystemExit: a package cannot be installed.
    """
    home = folder / peer.environment
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        print(f"installing {', '.join(ENVIRONMENTS[peer.environment])} …", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *ENVIRONMENTS[peer.environment]],
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{peer.environment}: its packages cannot be installed")
        (home / "ready").touch()
    return python


def said_by(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        SystemExit: it failed; the end of what it said is passed on.
    """
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = done.stderr.strip()[-1500:]
        raise SystemExit(f"{command[0]} … failed ({done.returncode}):\n{said}")
    return done.stdout


def said_by_peer(peer: Peer, folder: Path, given: dict[str, Any]) -> str:
    """Run a peer's script and return what it printed."""
    common = {"folder": str(folder), "size": SIZE, "tuned": peer.tuned}
    command = [str(environment_of(peer, folder)), str(LOOPS / peer.script)]
    return said_by([*command, json.dumps({**common, **given})], {**os.environ, "CI": "true"})


def run_peer(peer: Peer, model: str, folder: Path, clip: Path, scratch: Path) -> dict[str, Any]:
    """Return one run's figures of a peer."""
    given = {
        "clip": str(clip),
        "out": str(scratch / "peer.mp4"),
        "blank": str(scratch / "blank.png"),
        "model": model,
        "palette": [list(colour) for colour in CITYSCAPES.palette],
    }
    said = said_by_peer(peer, folder, given)
    figures: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    written = Path(given["out"])
    files = [written] if written.is_file() else [f for f in written.rglob("*") if f.is_file()]
    if sum(file.stat().st_size for file in files) < 10_000:
        raise SystemExit(f"{peer.name} wrote no video")
    if written.is_dir():
        shutil.rmtree(written)
    else:
        written.unlink()
    return figures


def run_ours(options: Sequence[str], clip: Path, scratch: Path) -> dict[str, Any]:
    """Return one run's figures of ``rt-seg``."""
    profile = scratch / "profile.json"
    command = [rt_seg(), "--source", str(clip), "--out", str(scratch / "ours.mp4"), "-y", "-q"]
    said_by([*command, "--profile", str(profile), *options])
    report = json.loads(profile.read_text(encoding="utf-8"))
    return {
        "frames": report["frames_out"],
        "fps": report["throughput_fps"],
        "cpu_ms": report["cpu_ms_per_frame"],
        "memory_mib": report["peak_memory_mib"],
        "versions": f"openvino {report['environment']['runtime_version']}",
    }


def theirs(ultralytics: str, folder: Path, clip: Path) -> dict[str, tuple[str, ...]]:
    """Return ``rt-seg``'s options for Ultralytics' network, exported by its makers' tool."""
    peer = next(peer for peer in PEERS if peer.environment == "ultralytics")
    said_by_peer(peer, folder, {"model": ultralytics, "clip": str(clip)})
    stem = f"{Path(ultralytics).stem}-{SIZE}"
    (network,) = (folder / f"{stem}_openvino_model").glob("*.xml")
    quantised = folder / f"{stem}-int8.onnx"
    if not quantised.exists():
        builder = str(Path(rt_seg()).with_name("rt-seg-engine"))
        command = [builder, "build", str(folder / f"{stem}.onnx"), "-o", str(quantised)]
        said_by([*command, "--precision", "int8", "--calib-data", str(clip)])
    return {THEIRS: ("--engine", str(network)), THEIRS_INT8: ("--engine", str(quantised))}


def network(peer: Peer, folder: Path) -> str:
    """Return the file a peer runs, made from the shipped one where it wants another ending."""
    precision, _, ending = peer.network.partition("-")
    shipped = shipped_file(precision)
    if not ending:
        return str(shipped)
    made = folder / f"{shipped.stem}-{ending}.onnx"
    if not made.exists() or made.stat().st_mtime < shipped.stat().st_mtime:
        without_argmax(shipped, made, scores=ending == "scores")
    return str(made)


def without_argmax(source: Path, target: Path, *, scores: bool) -> None:
    """Write a network that ends in logits at full size, or in its scores at a quarter of it."""
    import onnx
    from onnx import TensorProto, helper

    from rtseg.engines.adapt import adapt_onnx
    from rtseg.engines.cut import cut_upsampling

    adapted = adapt_onnx(source)
    model = adapted.model
    if scores:
        cut_upsampling(model)
        for output in [value for value in model.graph.output if value.name != "scores"]:
            model.graph.output.remove(output)
    else:
        argmax = next(node for node in model.graph.node if node.op_type == "ArgMax")
        logits = argmax.input[0]
        del model.graph.output[:]
        shape = [1, len(adapted.spec.classes), adapted.spec.height, adapted.spec.width]
        model.graph.output.append(helper.make_tensor_value_info(logits, TensorProto.FLOAT, shape))
        _drop_unused(model.graph)
    onnx.save(model, target)


def _drop_unused(graph: Any) -> None:
    """Remove the nodes whose results nobody takes."""
    while True:
        used = {name for node in graph.node for name in node.input}
        used |= {value.name for value in graph.output}
        idle = [node for node in graph.node if not used & set(node.output)]
        if not idle:
            return
        for node in idle:
            graph.node.remove(node)


def repeated(clip: Path, laps: int, target: Path) -> Path:
    """Write the clip's picture ``laps`` times in a row, packets copied; return the file."""
    import av

    with av.open(str(clip)) as source, av.open(str(target), "w") as result:
        video = source.streams.video[0]
        stream = result.add_stream_from_template(video)
        tick = video.time_base or Fraction(1, 90_000)
        step = round(1 / (video.average_rate or 30) / tick)
        following = 0
        for _ in range(laps):
            source.seek(0)
            packets = [p for p in source.demux(video) if p.dts is not None and p.pts is not None]
            shift = following - packets[0].dts
            following = packets[-1].dts + shift + step
            for packet in packets:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                result.mux(packet)
    return target


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rtseg-peers"
    parser.add_argument("--clip", help="a video (default: the 720p clip of the test data)")
    parser.add_argument("--folder", type=Path, default=home, help="environments (%(default)s)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--laps", type=int, default=4, help="how often the clip is repeated")
    parser.add_argument(
        "--ultralytics",
        default="yolo26n-sem",
        metavar="MODEL",
        help="trained weights (.pt), or the name of a model to run with random ones (%(default)s)",
    )
    parser.add_argument("--only", action="append", default=[], help="part of a name; repeatable")
    parser.add_argument("--json", type=Path, help="the figures, for other programs")
    parser.add_argument("--plot", type=Path, help="an SVG file with bars")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.ultralytics.endswith(".pt"):
        options.ultralytics = str(Path(options.ultralytics).resolve())

    def wanted(name: str) -> bool:
        return not options.only or any(part in name for part in options.only)

    figures: dict[str, list[dict[str, Any]]] = {}
    with clip_or_generated(options.clip) as clip, tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        blank(scratch / "blank.png")
        long = repeated(clip, options.laps, scratch / "clip.mp4")
        for peer in filter(lambda peer: wanted(peer.name), PEERS):
            environment_of(peer, options.folder)
        own = dict(OURS)
        if wanted(THEIRS) or wanted(THEIRS_INT8):
            own |= theirs(options.ultralytics, options.folder, clip)
        for _ in range(options.runs):  # in turn, so that all share the machine's moods
            for ours, flags in own.items():
                if wanted(ours):
                    figures.setdefault(ours, []).append(run_ours(flags, long, scratch))
            for peer in filter(lambda peer: wanted(peer.name), PEERS):
                model = network(peer, options.folder) if peer.network else options.ultralytics
                run = run_peer(peer, model, options.folder, long, scratch)
                figures.setdefault(peer.name, []).append(run)
    print_table(figures, clip.name)
    if options.json:
        record = {"machine": machine(), "clip": clip.name, "loops": figures}
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")
    if options.plot:
        rates = {name: [run["fps"] for run in runs] for name, runs in figures.items()}
        options.plot.write_text(bars(rates, "frames/s, end to end, output written"), "utf-8")


def blank(path: Path) -> None:
    """Write a small grey picture, to warm models up with."""
    import av  # noqa: F401  before cv2, as both bring some of the same libraries
    import cv2
    import numpy as np

    cv2.imwrite(str(path), np.full((72, 128, 3), 127, np.uint8))


def print_table(figures: dict[str, list[dict[str, Any]]], clip: str) -> None:
    """Print a Markdown table: medians, least and most of the runs."""

    def cell(runs: Sequence[dict[str, Any]], key: str) -> str:
        values = [run[key] for run in runs]
        return f"{statistics.median(values):.1f} ({min(values):.1f} – {max(values):.1f})"

    print(f"machine   {machine()}")
    runs = next(iter(figures.values()))
    print(f"clip      {clip}, {runs[0]['frames']} frames; {len(runs)} runs, median (least – most)")
    print("\n| loop | frames/s | CPU-ms a frame | peak memory, MiB | versions |")
    print("|---|---|---|---|---|")
    for name, runs in sorted(
        figures.items(), key=lambda item: -statistics.median(run["fps"] for run in item[1])
    ):
        memory = max(run["memory_mib"] for run in runs)
        print(
            f"| {name} | {cell(runs, 'fps')} | {cell(runs, 'cpu_ms')} | {memory:.0f} "
            f"| {runs[0]['versions']} |"
        )


if __name__ == "__main__":
    main()
