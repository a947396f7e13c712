"""The command ``rt-seg``: arguments in, one line and the right exit code out."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from itertools import pairwise

from rtseg.engines.errors import EngineError
from rtseg.realtime.arguments import build_parser
from rtseg.realtime.ending import give_up_output, open_closed_streams, reason_and_text
from rtseg.realtime.errors import RealtimeError, UsageError, exit_code_of
from rtseg.realtime.parser import parsed
from rtseg.realtime.sinks.network import shown_address, without_secrets

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``rt-seg`` and return its exit code.

    Args:
        arguments: what was typed after the command; None takes it from the process.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in typed
    try:
        options = _parse(typed)
        return options if isinstance(options, int) else _run(options, typed)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (RealtimeError, EngineError) as error:
        if debug:
            raise
        return fail(str(error), error.reason, exit_code_of(error), typed)
    except Exception as error:
        if debug:
            raise
        reason, text = reason_and_text(error)
        return fail(text, reason, 1, typed)


def command() -> None:
    """Run :func:`main` as the installed command does."""
    open_closed_streams()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    stuck = [thread for thread in threading.enumerate() if thread.name.startswith("rtseg-")]
    if stuck:  # an output that never returns must not keep the process
        os._exit(code)
    sys.exit(code)


def fail(text: str, reason: str, code: int, typed: list[str]) -> int:
    """Say in one line on stderr what went wrong, and return the exit code.

    Args:
        text: what it was.
        reason: its stable word.
        code: the exit code.
        typed: what was typed after the command, whose passwords are not repeated.
    """
    line = " ".join(without_secrets(text, typed).split())
    if _wants_json(typed):
        import json

        record = {"level": "error", "reason": reason, "message": line}
        print(json.dumps(record), file=sys.stderr)
    else:
        print(f"rt-seg: error: {reason}: {line}", file=sys.stderr)
    return code


def _wants_json(typed: list[str]) -> bool:
    following = dict(pairwise(typed))
    return "--log-format=json" in typed or following.get("--log-format") == "json"


def _parse(typed: list[str]) -> argparse.Namespace | int:
    try:
        return parsed(build_parser(), typed)
    except OSError as error:  # what --help or --version print cannot be written
        give_up_output()
        if isinstance(error, BrokenPipeError):  # whoever reads us has enough
            return 0
        reason, text = reason_and_text(error)
        return fail(text, reason, 1, typed)


def _run(options: argparse.Namespace, typed: list[str]) -> int:
    _take_positionals(options)
    if options.source is None:
        raise UsageError("nothing to segment: name a source, such as rt-seg --source camera0")
    from rtseg.engines.variables import make_variables
    from rtseg.realtime.early import EarlyEngine
    from rtseg.realtime.log import set_up_logging
    from rtseg.realtime.sources.several import named_sources

    set_up_logging(options.log_format, quiet=options.quiet, verbose=options.verbose, times=True)
    if options.batch:
        make_variables()
        from rtseg.realtime.batch import run_batch

        return run_batch(
            options, lambda error: fail(str(error), error.reason, exit_code_of(error), typed)
        )
    if options.skip_existing:
        raise UsageError("--skip-existing is for --batch")
    sources = named_sources(options.source)
    make_variables()
    with EarlyEngine(options, sources[0].spec if len(sources) == 1 else None) as early:
        # The loop's own imports take as long as the engine's.
        from rtseg.realtime.session import run_session

        return run_session(options, sources, early)


def _take_positionals(options: argparse.Namespace) -> None:
    """Let ``rt-seg S [O]`` mean ``--source S --out O``."""
    words: list[str] = options.positional
    if options.source is not None and words:
        typed = f"{shown_address(options.source[0])} and {shown_address(words[0])}"
        raise UsageError(f"one source as a plain word, or --source for each. Received: {typed}")
    if len(words) > 2:
        received = " ".join(map(shown_address, words))
        raise UsageError(f"one source and one output at most. Received: {received}")
    if words:
        options.source = [words[0]]
    if len(words) == 2:
        options.out = [words[1], *options.out]
