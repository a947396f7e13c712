"""``--batch``: many video files, one after the other, with one engine."""

from __future__ import annotations

import argparse
import contextlib
import copy
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rtseg.engines.engine import Engine
from rtseg.engines.errors import EngineError
from rtseg.realtime.batch_mark import Unfinished
from rtseg.realtime.early import EarlyEngine
from rtseg.realtime.errors import RealtimeError, UsageError
from rtseg.realtime.frame import SourceInfo
from rtseg.realtime.log import NOTICE
from rtseg.realtime.session import run_session
from rtseg.realtime.shape import narrow_shape
from rtseg.realtime.sinks.resolve import parse_sink
from rtseg.realtime.sources.clips import find_clips
from rtseg.realtime.sources.several import NamedSource

_log = logging.getLogger("rtseg.realtime")

STEM = "{stem}"
"""Stands for a clip's name in the names of outputs; unique among the clips."""

_FILES = ("record", "labels_out", "jsonl", "profile", "trace")


def run_batch(options: argparse.Namespace, say: Callable[[RealtimeError], int]) -> int:
    """Run every clip by itself and return the exit code: 1 where one failed.

    One that fails, or whose outputs exist, leaves the others alone.

    Args:
        options: as :mod:`rtseg.realtime.arguments` gives them; logging is set up.
        say: reports the failure of one clip and returns its exit code.

    Raises:
        RealtimeError: no clips, or an option makes no sense.
        EngineError: the engine failed.
    """
    clips = find_clips(options.source)
    _check_outputs(options, clips)
    done, skipped, failed = 0, 0, list[str]()
    with contextlib.ExitStack() as stack:
        early = stack.enter_context(EarlyEngine(options, clips[0].spec))
        kept = stack.enter_context(_KeptEngine(early))
        for number, clip in enumerate(clips, 1):
            _log.log(NOTICE, "clip %d of %d: %s", number, len(clips), clip.spec.name)
            own, unfinished = _of_clip(options, clip), _unfinished(options, clip)
            if options.skip_existing and unfinished.left:
                _log.log(NOTICE, "anew, as an earlier run was ended within it: %s", clip.name)
                own.overwrite = True
            unfinished.begin(replace=own.overwrite)
            try:
                code = run_session(own, [clip], kept, _others(clips, clip))
            except RealtimeError as error:
                if error.reason == "EXISTS":
                    unfinished.refused()
                else:
                    unfinished.failed()
                if error.reason == "EXISTS" and options.skip_existing:
                    _log.log(NOTICE, "skipped: %s", error)
                    skipped += 1
                    continue
                if isinstance(error, UsageError) and error.reason != "EXISTS":
                    raise  # no clip can do better
                say(error)
                failed.append(clip.name)
                continue
            except EngineError:
                unfinished.failed()
                raise
            if code:
                ended = f"ended within clip {number} of {len(clips)}"
                _log.warning(
                    "%s: the outputs of %s are not whole (--skip-existing makes them anew)",
                    *(ended, clip.name),
                )
                return code
            unfinished.end()
            done += 1
    names = f" ({', '.join(failed)})" if failed else ""
    counts = f"{done} done, {skipped} skipped, {len(failed)} failed{names}"
    _log.log(NOTICE, "%d clips: %s", len(clips), counts)
    return 1 if failed else 0


class _KeptEngine:
    """Gives the same engine to one session after the other; closes it at the end of its block.

    Clips of another narrow shape get one of theirs.
    """

    def __init__(self, early: EarlyEngine) -> None:
        self._early = early
        self._engine: Engine | None = None
        self._shape: float | None = None

    def take(self, info: SourceInfo) -> AbstractContextManager[Engine]:
        """Return the engine as a block that leaves it open."""
        shape = narrow_shape(info)
        if self._engine is not None and shape != self._shape:
            self._engine.close()
            self._engine = None
        if self._engine is None:
            self._engine, self._shape = self._early.take(info), shape
        return contextlib.nullcontext(self._engine)

    def __enter__(self) -> _KeptEngine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            self._engine.close()


def _others(clips: Sequence[NamedSource], clip: NamedSource) -> list[NamedSource]:
    return [other for other in clips if other is not clip]


def _of_clip(options: argparse.Namespace, clip: NamedSource) -> argparse.Namespace:
    """Return the options of one clip: its source, and its name in those of the outputs."""
    own = copy.copy(options)
    own.source = [clip.text]
    own.out = [text.replace(STEM, clip.name) for text in options.out]
    for name in _FILES:
        text = getattr(options, name)
        if text:
            setattr(own, name, text.replace(STEM, clip.name))
    return own


def _unfinished(options: argparse.Namespace, clip: NamedSource) -> Unfinished:
    files = [text for text in options.out if parse_sink(text).kind not in _SHARED]
    files += [text for name in _FILES if (text := getattr(options, name))]
    own = [Path(text.replace(STEM, clip.name)) for text in files if STEM in text]
    if own:
        return Unfinished.beside(own)
    return Unfinished(Path(files[0]), clip.name) if files else Unfinished()


def _check_outputs(options: argparse.Namespace, clips: Sequence[NamedSource]) -> None:
    """Refuse outputs that one clip would take from another.

    Raises:
        UsageError: says which output, and what would do.
    """
    stems = {Path(clip.text).stem.lower() for clip in clips}
    named = [("--out", text) for text in options.out]
    named += [(f"--{name.replace('_', '-')}", getattr(options, name) or "") for name in _FILES]
    for option, text in named:
        if not text or STEM in text or (option == "--out" and parse_sink(text).kind in _SHARED):
            continue
        folder = option in ("--out", "--record", "--labels-out") and (
            Path(text).is_dir() or text.endswith("/") or option == "--labels-out"
        )
        if folder and not Path(text).suffix and len(stems) == len(clips):
            continue
        why = "two clips have the same name" if folder else "every clip has its own"
        raise UsageError(
            f"{option} of --batch is a name with {STEM} in it ({why}), such as "
            f"{option} 'out/{STEM}{Path(text).suffix or '_seg.mp4'}'. Received: {text!r}"
        )


_SHARED = ("null", "window", "web", "network")
