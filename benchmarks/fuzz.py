"""Feeds damaged inputs to everything that reads one, and counts what is no orderly answer.

Videos, bitstreams, pictures, networks, engine files, notes, palettes, configurations, lists,
addresses and command lines are made here, then mutated with a seed: bits, bytes, numbers at
their limits, cuts, copies, splices of two files; for text, pieces that mean something
elsewhere. Orderly is a result, or an error of the room's own family with its reason word. All
else is a finding: another exception, a traceback, a process that dies, an answer that does not
come.

Inputs are tried in processes of their own, since native code may take the process with it; one
that dies is replaced, and its input is kept.

    python benchmarks/fuzz.py [--count 12000] [--seed 1] [--workers 2] [--keep DIR] [--kinds A,B]

Ends with 0 where there was no finding.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HANG_S = 60.0
MOST_FRAMES = 12
MEMORY = 6 << 30
"""Address space of a worker, in bytes: an input that makes the program ask for more is told."""

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

# -- mutation -------------------------------------------------------------------------------

NUMBERS = (
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\1",
)
WORDS = (
    "", "\0", "\n", "//", "../", "%", "%s", "%06d", "%99999999d", "{}", "[", "]", "-", "--", "=",
    "@", ":", "://", "#", "'", '"', "\\", "1e999", "NaN", "-1", "0", "99999999999999999999", "null",
    "true", "[[[[", "é", "\u202e", "\ud800", "😀", "🇺🇳" * 50, "a" * 5000, "rtsp", "file", "lavfi:",
    "testsrc", "user:pa:ss@", "[::1", "[::1]", ":99999", ":-1", "?token=x", "*", "**/*", "~",
)  # fmt: skip


def mutate_bytes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return a damaged copy of some bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 12))):
        if not out:
            break
        at = rng.randrange(len(out))
        # heads and tails are where formats keep what matters
        if rng.random() < 0.3:
            at = min(len(out) - 1, rng.randrange(64))
        step = rng.randrange(8)
        if step == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif step == 1:
            out[at] = rng.randrange(256)
        elif step == 2:
            number = rng.choice(NUMBERS)
            out[at : at + len(number)] = number
        elif step == 3:
            del out[at:]
        elif step == 4:
            del out[at : at + rng.randrange(1, 400)]
        elif step == 5:
            length = rng.randrange(1, 400)
            out[at:at] = out[at : at + length]
        elif step == 6:
            start = rng.randrange(len(other) or 1)
            out[at:at] = other[start : start + rng.randrange(1, 2000)]
        else:
            out[at : at + 64] = rng.randbytes(rng.randrange(64))
    return bytes(out)


def mutate_text(text: str, other: str, rng: random.Random) -> str:
    """Return a damaged copy of a text."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(text) + 1)
        length = rng.randrange(1, 12)
        step = rng.randrange(6)
        if step == 0:
            text = text[:at] + rng.choice(WORDS) + text[at:]
        elif step == 1:
            text = text[:at] + rng.choice(WORDS) + text[at + length :]
        elif step == 2:
            text = text[:at] + text[at + length :]
        elif step == 3:
            text = text[:at] + chr(rng.randrange(1, 0x3000)) + text[at:]
        elif step == 4:
            start = rng.randrange(len(other) + 1)
            text = text[:at] + other[start : start + 40] + text[at:]
        else:
            text = text[:at]
    return text


# -- seeds ----------------------------------------------------------------------------------


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


# -- what is tried (in a worker) -------------------------------------------------------------


def _read_source(path: Path) -> None:
    from rtseg.realtime.sources.options import SourceOptions
    from rtseg.realtime.sources.resolve import open_source

    with open_source(str(path), SourceOptions(timeout_s=10)) as source:
        for number, frame in enumerate(source.frames()):
            frame.video.reformat(width=32, height=32, format="rgb24")
            if number >= MOST_FRAMES:
                break


def _adapt_onnx(path: Path) -> None:
    from rtseg.engines.adapt import adapt_onnx

    adapt_onnx(path)
    if path.stat().st_size % 8 == 0:  # the runtime itself is slower: one in eight
        from rtseg.engines.registry import open_engine

        with open_engine(path, backend="onnxruntime", threads=1) as engine:
            assert engine.spec.width > 0


def _read_note(path: Path) -> None:
    from rtseg.engines.sidecar import read_sidecar, sidecar_path

    model = path.with_name("model.onnx")
    shutil.copy(path, sidecar_path(model))
    read_sidecar(model)


def _read_plan(path: Path) -> None:
    from rtseg.engines.planfile import read_header

    read_header(path)


def _read_plan_header(path: Path) -> None:
    from rtseg.engines.planfile import PlanHeader

    PlanHeader.from_json(_text(path))


def _read_palette(path: Path) -> None:
    from rtseg.engines.labels import CITYSCAPES
    from rtseg.realtime.palette import load_palette

    load_palette(str(path), CITYSCAPES)


def _read_config(path: Path) -> None:
    from rtseg.models.config import read_config

    read_config(path)


def _read_calibration(path: Path) -> None:
    from rtseg.calibration.cache import CalibrationCache

    CalibrationCache.load(path)


def _read_list(path: Path) -> None:
    from rtseg.realtime.sources.several import named_sources

    named_sources([str(path)])


def _read_url(path: Path) -> None:
    from rtseg.realtime.sinks.resolve import parse_sink
    from rtseg.realtime.sources.several import named_sources

    text = _text(path)
    _orderly(lambda: parse_sink(text))
    named_sources([text, "testsrc"])


def _read_command(path: Path) -> None:
    import shlex

    from rtseg.realtime.arguments import build_parser

    text = _text(path)
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    with suppress(SystemExit):  # --help
        build_parser().parse(words)


def _run_command(path: Path) -> None:
    import shlex

    from rtseg.realtime.cli import main

    text = _text(path)
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    # nothing that opens a device, a port or a file elsewhere
    unsafe = ("out", "source", "port", "web", "jsonl", "profile", "trace", "debug", "engine")
    words = [w for w in words if not any(u in w for u in unsafe) and "/" not in w]
    words = [
        "--source",
        "testsrc",
        "--out",
        "null",
        *words,
        "--max-frames",
        "1",
        "-q",
        "--headless",
    ]
    code = main(words)
    if code not in (0, 1, 2):
        raise AssertionError(f"exit code {code}")


TRIALS: dict[str, Callable[[Path], None]] = {
    "container": _read_source,
    "bitstream": _read_source,
    "image": _read_source,
    "onnx": _adapt_onnx,
    "note": _read_note,
    "plan": _read_plan,
    "header": _read_plan_header,
    "palette": _read_palette,
    "config": _read_config,
    "calibration": _read_calibration,
    "list": _read_list,
    "url": _read_url,
    "command": _read_command,
    "run": _run_command,
}


def _text(path: Path) -> str:
    """Return a file as what a shell would hand over: bytes that are no UTF-8 are kept."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _orderly(trial: Callable[[], object]) -> str:
    """Return ``accepted`` or the reason word; anything else is raised."""
    from rtseg.calibration.errors import CalibrationError
    from rtseg.engines.errors import EngineError
    from rtseg.models.errors import ModelError
    from rtseg.realtime.errors import RealtimeError

    try:
        trial()
        return "accepted"
    except (RealtimeError, EngineError, CalibrationError, ModelError) as error:
        text = str(error)
        if not getattr(error, "reason", "x"):
            raise AssertionError("an error without reason") from error
        if "Traceback" in text or len(text) > 20_000:
            raise AssertionError(f"no line for people: {text[:200]!r}") from error
        return str(getattr(error, "reason", "refused"))


def work() -> None:
    """Answer requests (kind and path, a JSON line each) until standard input ends."""
    import resource

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import av  # noqa: F401  before OpenCV

    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    said = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
    os.dup2(said.fileno(), 2)
    for request in sys.stdin:
        kind, name = json.loads(request)
        said.seek(0)
        said.truncate()
        began_s = time.monotonic()
        try:
            answer = {"end": _orderly(partial(TRIALS[kind], Path(name)))}
        except BaseException as error:
            import traceback

            where = traceback.extract_tb(error.__traceback__)[-1]
            answer = {
                "finding": f"{type(error).__name__}: {str(error)[:200]!r}",
                "where": f"{where.filename}:{where.lineno}",
                "trace": traceback.format_exc()[-4000:],
            }
        sys.stderr.flush()
        said.seek(0)
        complaint = said.read().decode(errors="replace")
        if "finding" not in answer and ("Traceback" in complaint or "INTERNAL" in complaint):
            answer = {"finding": "said on stderr", "where": kind, "trace": complaint[-4000:]}
        answer["seconds"] = round(time.monotonic() - began_s, 3)
        print(json.dumps(answer), file=answers, flush=True)


# -- the parent ------------------------------------------------------------------------------


class Worker:
    """A process that tries inputs; a new one is made when it died or hung."""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def try_one(self, kind: str, path: Path) -> dict[str, Any]:
        """Return the worker's answer, or the finding that there was none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(HANG_S, self._process.kill)
        began_s = time.monotonic()
        late.start()
        try:
            self._process.stdin.write(json.dumps([kind, str(path)]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            late.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        hung = time.monotonic() - began_s >= HANG_S
        self._process.stdout.close()
        self._process = self._start()
        what = f"no answer within {HANG_S:.0f} s" if hung else f"the process died ({code})"
        return {"finding": what, "where": kind, "trace": ""}

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def inputs(seeds: Sequence[Seed], count: int, seed: int, kinds: Sequence[str]) -> Iterator[Seed]:
    """Yield mutated inputs; the same for the same seed."""
    rng = random.Random(seed)
    weights = [SHARES[kind] for kind in kinds]
    by_kind = {kind: [s for s in seeds if s.kind == kind] for kind in kinds}
    binary = {"container", "bitstream", "image", "onnx", "plan"}
    for _ in range(count):
        kind = rng.choices(kinds, weights)[0]
        one, other = rng.choice(by_kind[kind]), rng.choice(by_kind[kind])
        if kind in binary or rng.random() < 0.15:
            data = mutate_bytes(one.data, other.data, rng)
        else:
            text = mutate_text(one.data.decode(), other.data.decode(), rng)
            data = text.encode("utf-8", "surrogatepass")
        yield Seed(kind, one.suffix, data)


def fuzz(
    count: int, seed: int, workers: int, kinds: Sequence[str], keep: Path | None
) -> tuple[Counter[tuple[str, str]], list[dict[str, Any]]]:
    """Try inputs and return how each kind ended, and the findings."""
    ends: Counter[tuple[str, str]] = Counter()
    findings: list[dict[str, Any]] = []
    lock = threading.Lock()
    waiting: queue.Queue[tuple[int, Seed] | None] = queue.Queue(maxsize=4 * workers)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        seeds = make_seeds(folder)

        def run() -> None:
            worker = Worker()
            own = Path(tempfile.mkdtemp(dir=folder))
            while (item := waiting.get()) is not None:
                number, made = item
                path = own / f"input{made.suffix}"
                path.write_bytes(made.data)
                answer = worker.try_one(made.kind, path)
                with lock:
                    ends[made.kind, answer.get("end", "FINDING")] += 1
                    if "finding" in answer:
                        answer |= {"kind": made.kind, "number": number, "bytes": len(made.data)}
                        findings.append(answer)
                        print(f"  {answer['kind']} {number}: {answer['finding']} "
                              f"({answer['where']})", flush=True)  # fmt: skip
                        if keep is not None:
                            keep.mkdir(parents=True, exist_ok=True)
                            (keep / f"{made.kind}-{number}{made.suffix}").write_bytes(made.data)
                            trace = keep / f"{made.kind}-{number}.trace"
                            trace.write_text(answer["trace"], errors="replace")
            worker.close()

        threads = [threading.Thread(target=run) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for item in enumerate(inputs(seeds, count, seed, kinds)):
            waiting.put(item)
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()
    return ends, findings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the counts, and return 0 where there was no finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(SHARES), help="some of: " + ", ".join(SHARES))
    parser.add_argument("--keep", type=Path, help="where inputs of findings are kept")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work()
        return 0
    sys.path.insert(0, str(ROOT))
    kinds = options.kinds.split(",")
    began_s = time.monotonic()
    ends, findings = fuzz(options.count, options.seed, options.workers, kinds, options.keep)
    print(f"{sum(ends.values())} inputs, seed {options.seed}, {time.monotonic() - began_s:.0f} s")
    for kind in kinds:
        of_kind = {end: count for (name, end), count in ends.items() if name == kind}
        told = ", ".join(f"{n} {end}" for end, n in sorted(of_kind.items(), key=lambda e: -e[1]))
        print(f"{kind:<12}{sum(of_kind.values()):>6}  {told}")
    print(f"findings    {len(findings):>6}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
