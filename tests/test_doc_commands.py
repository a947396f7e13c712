"""The commands in the documents are ones that the programs take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtseg.realtime.arguments import build_parser
from rtseg.realtime.errors import UsageError
from rtseg.realtime.parser import Parser
from rtseg.tools import rt_seg_engine, rt_seg_model

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {
    "rt-seg": build_parser,
    "rt-seg-engine": rt_seg_engine._parser,
    "rt-seg-model": rt_seg_model._parser,
}
PROGRAM = r"rt-seg(?:-engine|-model)?"
_FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[str]:
    """Yield the commands that stand in blocks of their own; a comment behind one goes."""
    for language, block in _FENCED.findall(text):
        if language == "python":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(rf" *{PROGRAM}( |$)", line):
                yield line.strip()


def inline(text: str) -> Iterator[str]:
    """Yield the commands that stand within sentences, over ends of lines, too."""
    for code in re.findall(r"`([^`]+)`", _FENCED.sub("", text)):
        command = " ".join(code.split())
        if re.fullmatch(rf"{PROGRAM}( .*)?", command):
            yield command


def commands(*, fenced: bool) -> list[tuple[str, str]]:
    return [
        (path.name, command)
        for path in DOCUMENTS
        for command in (blocks if fenced else inline)(path.read_text(encoding="utf-8"))
    ]


def parse(command: str) -> None:
    program, *words = shlex.split(command, comments=True)
    try:
        PARSERS[program]().parse(words)
    except SystemExit as end:  # --help, --version
        if end.code:
            raise


def known_options(parser: Parser, words: list[str]) -> set[str]:
    """Return the options of a command; those of its subcommand where one is named."""
    for action in parser._actions:
        if isinstance(action.choices, dict) and words and words[0] in action.choices:
            return set(action.choices[words[0]]._option_string_actions)
    return set(parser._option_string_actions)


def test_there_are_commands_of_every_program() -> None:
    for fenced in (True, False):
        programs = {command.split()[0] for _, command in commands(fenced=fenced)}
        assert programs == set(PARSERS)


@pytest.mark.parametrize(("document", "command"), commands(fenced=True))
def test_commands_in_blocks_are_whole(
    document: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parse(command)


@pytest.mark.parametrize(("document", "command"), commands(fenced=False))
def test_commands_in_sentences_have_the_options_that_they_name(
    document: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may leave out what else is needed: with three dots, or without a word."""
    if "…" in command:
        program, *words = shlex.split(command)
        typed = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert typed <= known_options(PARSERS[program](), words)
        return
    try:
        parse(command)
    except UsageError as error:
        if not str(error).startswith("the following arguments are required"):
            raise


@pytest.mark.parametrize(
    "text",
    [
        "```\nrt-seg drive.mp4 --no-such-option\n```",
        "```\nrt-seg-engine build FILE --calib-dta X\n```",
        "```\nrt-seg-model evaluate NET.onnx\n```",
        "```\nrt-seg-model evaluate NET.onnx \\\n  --data X --kind kitti  # other\n```",
    ],
)
def test_what_is_wrong_in_a_block_is_seen(text: str) -> None:
    (command,) = blocks(text)
    with pytest.raises(UsageError):
        parse(command)
