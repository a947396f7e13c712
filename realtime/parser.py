"""What the commands' arguments have in common: one line for each mistake, with what was meant."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sinks.network import without_secrets


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are :class:`UsageError` and suggest what was meant.

    Options are not abbreviated. Its subcommands' parsers are of the same kind.

    Args:
        options: as of ``argparse.ArgumentParser``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        self._typed: list[str] = []
        self.once: dict[str, Any] = {}
        """What options of :class:`Once` were given so far."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, as ``argparse`` does, and remember what was typed."""
        self._typed = [str(word) for word in (sys.argv[1:] if args is None else args)]
        self.once.clear()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise instead of leaving the process."""
        if message.startswith("the following arguments are required"):
            for word in self._typed:  # a misspelt option is why another one is missing
                name = word.split("=", 1)[0]
                if word.startswith("--") and name != "--" and name not in self._known():
                    message = self._unknown(word)
                    break
        message = without_secrets(message, self._typed)
        stop = "" if message.endswith(("?", ".")) else "."
        raise UsageError(f"{message}{stop} See {self.prog} --help")

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Return the parsed arguments; None takes them from the process.

        Without subcommands, plain words and options may be mixed: ``testsrc --loop 2 null``.

        Raises:
            UsageError: an unknown option, with the nearest known one, or a bad value.
        """
        options: argparse.Namespace
        options, unknown = self.parse_known_args(arguments)
        if unknown and self._subparsers is None:
            options, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            chosen = self._chosen(options)
            chosen.error(chosen._unknown(unknown[0]))
        return options

    def _chosen(self, options: argparse.Namespace) -> Parser:
        """Return the parser of the subcommand that was typed, or this one."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                parser = action.choices.get(getattr(options, action.dest, ""))
                if isinstance(parser, Parser):
                    return parser._chosen(options)
        return self

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"unexpected argument {word!r}"
        name = word.split("=", 1)[0]
        return f"unknown option {name}{_meant(name, self._known())}"

    def _known(self) -> list[str]:
        return list(self._option_string_actions)

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own says nothing of a disk that is full
        (file or sys.stderr).write(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = action.choices
        if choices is not None and isinstance(value, str) and value not in choices:
            allowed = [str(choice) for choice in choices]
            raise argparse.ArgumentError(
                action,
                f"invalid choice: {value!r} (choose from {', '.join(allowed)})"
                f"{_meant(value, allowed)}",
            )
        super()._check_value(action, value)


class Once(argparse.Action):
    """Stores a value; another one after it is refused, where it could be thought to be for one
    of several outputs."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the value.

        Raises:
            ArgumentError: the option was typed before, with another value.
        """
        if isinstance(parser, Parser):
            before = parser.once.setdefault(self.dest, values)
            if before != values:
                raise argparse.ArgumentError(
                    self,
                    f"it is for the whole run and all its outputs. Allowed: once. Received: "
                    f"{before!s} and {values!s}",
                )
        setattr(namespace, self.dest, values)


class ShowVersions(argparse.Action):
    """``--version``: prints ours and the installed engine runtimes', and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print versions and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print and leave, as ``--help`` does."""
        from rtseg.realtime.environment import version_lines

        print("\n".join(version_lines(parser.prog)))
        parser.exit()


def parsed(parser: Parser, arguments: Sequence[str] | None) -> argparse.Namespace | int:
    """Return what was typed for a command, or its exit code where there is nothing to do.

    Args:
        parser: the command's.
        arguments: what was typed after the command; None takes it from the process.

    Raises:
        UsageError: as :meth:`Parser.parse`.
        OSError: what ``--help`` or ``--version`` print cannot be written.
    """
    try:
        return parser.parse(arguments)
    except SystemExit as done:
        sys.stdout.flush()
        return done.code if isinstance(done.code, int) else 0


def _meant(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""
