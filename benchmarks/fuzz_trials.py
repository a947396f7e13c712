"""The process in which ``benchmarks/fuzz.py`` tries damaged inputs, and what it does with each."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

MOST_FRAMES = 12
MEMORY = 6 << 30
"""Address space of a worker, in bytes: an input that makes the program ask for more is told."""


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


if __name__ == "__main__":
    work()
