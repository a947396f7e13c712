"""Small whole inputs of every kind, which ``benchmarks/fuzz.py`` damages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

SHARES = {
    "container": 26,
    "bitstream": 10,
    "image": 10,
    "onnx": 6,
    "note": 6,
    "plan": 4,
    "header": 6,
    "palette": 6,
    "config": 6,
    "calibration": 3,
    "list": 8,
    "url": 12,
    "command": 12,
    "run": 1,
}
"""Of each kind, how many of a hundred inputs (and a little more)."""


@dataclass(frozen=True)
class Seed:
    """Something whole, to be damaged."""

    kind: str
    suffix: str
    data: bytes


def make_seeds(folder: Path) -> list[Seed]:
    """Return small whole inputs of every kind."""
    seeds = [*_videos(folder), *_images(folder), *_networks(folder), *_texts()]
    missing = set(SHARES) - {seed.kind for seed in seeds}
    assert not missing, missing
    return seeds


def _videos(folder: Path) -> Iterator[Seed]:
    from tests.media import make_video

    made = [
        ("a.mp4", {"audio": True}),
        ("b.mov", {"rotation": 90, "b_frames": 2}),
        ("c.mkv", {"vfr_ms": [0, 40, 100, 101, 250, 400]}),
        ("d.ts", {"format": "mpegts"}),
        ("e.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        ("f.mkv", {"codec": "ffv1"}),
        ("g.mp4", {"codec": "mpeg4"}),
        ("h.webm", {"codec": "libvpx"}),
        ("i.gif", {"codec": "gif", "pixel_format": "rgb8"}),
        ("j.flv", {"format": "flv"}),
    ]
    for name, extra in made:
        path = folder / name
        with suppress(Exception):  # an encoder that this build lacks
            make_video(path, frames=6, **extra)  # type: ignore[arg-type]
            yield Seed("container", path.suffix, path.read_bytes())
    for name, extra in (
        ("a.h264", {"format": "h264"}),
        ("b.h265", {"codec": "libx265", "format": "hevc"}),
        ("c.m2v", {"codec": "mpeg2video", "format": "mpeg2video"}),
        ("d.ivf", {"codec": "libvpx-vp9", "format": "ivf"}),
        ("e.mjpg", {"codec": "mjpeg", "pixel_format": "yuvj420p", "format": "mjpeg"}),
    ):
        path = folder / name
        with suppress(Exception):
            make_video(path, frames=6, **extra)  # type: ignore[arg-type]
            yield Seed("bitstream", path.suffix, path.read_bytes())


def _images(folder: Path) -> Iterator[Seed]:
    import cv2
    import numpy as np

    picture = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm"):
        done, data = cv2.imencode(suffix, picture)
        if done:
            yield Seed("image", suffix, data.tobytes())


def _networks(folder: Path) -> Iterator[Seed]:
    from rtseg.engines.planfile import MAGIC, PlanHeader, PlanIdentity, write_plan
    from rtseg.engines.registry import open_engine
    from tests.engines.networks import TinyNet

    path = folder / "net.onnx"
    TinyNet().save(path)
    yield Seed("onnx", ".onnx", path.read_bytes())
    TinyNet(end="nhw", dtype="uint8", layout="nhwc", enlarged="half_pixel").save(path)
    yield Seed("onnx", ".onnx", path.read_bytes())
    with open_engine(path, backend="onnxruntime") as engine:
        spec = engine.spec
    identity = PlanIdentity(
        "rtx", "1.7", "any", "any", "tiny", 48, 32, "fp16", 1, 64, "a" * 64, "b" * 64, "", "0.1"
    )
    header = PlanHeader(identity, spec, "frames", "labels")
    plan = folder / "net.engine"
    write_plan(plan, header, b"plan" * 50)
    assert plan.read_bytes().startswith(MAGIC)
    yield Seed("plan", ".engine", plan.read_bytes())
    yield Seed("header", ".json", header.to_json().encode())
    note = {
        "classes": ["road", "car"],
        "palette": [[128, 64, 128], [0, 0, 142]],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "scale": 255,
        "bgr": False,
        "network": "tiny",
    }
    yield Seed("note", ".json", json.dumps(note).encode())


def _texts() -> Iterator[Seed]:
    texts = {
        "palette": (
            '{"road": [128, 64, 128], "car": "#00008e"}',
            "128 64 128 road\n0,0,142,car\n# x\n",
        ),
        "config": (
            '{"network": "espnet-lite", "phases": [{"epochs": 1}]}',
            (ROOT / "models" / "configs" / "espnet-lite.json").read_text()
            if (ROOT / "models" / "configs" / "espnet-lite.json").exists()
            else "{}",
        ),
        "calibration": ('{"format": 1, "method": "mse", "scales": {"x": 0.5}}',),
        "list": ("# cameras\ncamera0\nrtsp://a:b@10.0.0.5:554/live\ntestsrc\n\nscreen:1\n",),
        "url": (
            "rtsp://admin:pa%40ss@10.0.0.5:554/cam/realmonitor?channel=1&subtype=0",
            "http://[::1]:8080/live.m3u8?token=abc",
            "v4l2:///dev/video0",
            "lavfi:testsrc=size=64x64:rate=5",
            "file:///tmp/a%20b.mp4",
            "camera:1",
            "frames/*_%06d.png",
        ),
        "command": (
            "--source testsrc --out seg.mp4 --view overlay --alpha 0.5 --max-frames 3 -y",
            "--source a.mp4 --source b.mp4 --layout grid --out grid.mp4 --jsonl x.jsonl --stride 2",
            "in.mp4 out.mkv --classes road,person --crf 23 --start 1.5 --duration 2 --loop 2",
            "--source 0 --width 640 --height 480 --fps 30 --timeout 5 --reconnect forever -v -v",
            "--redact person,rider --redact-style blur --threads 2 --precision int8 --no-audio",
        ),
        "run": (
            "--view mask --alpha 0.5 --legend --hud --classes road,car --stride 1 --warmup 0",
            "--palette p.json --threads 1 --drop-policy latest --buffer 2 --max-fps 20 --start 0",
            "--codec h264 --crf 30 --label-ids train --ignore-class sky --width 64 --height 64",
        ),
    }
    for kind, parts in texts.items():
        for text in parts:
            yield Seed(kind, ".txt", text.encode())
