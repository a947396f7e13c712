"""What every command's arguments have in common: one line, exit code 2, and what was meant."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from rtseg.realtime import cli
from rtseg.realtime.errors import UsageError
from rtseg.realtime.parser import Parser
from rtseg.tools import rt_seg_engine, rt_seg_model
from rtseg.tools.ending import parse_command


def make() -> Parser:
    parser = Parser(prog="street")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build")
    build.add_argument("file")
    build.add_argument("--precision", choices=("int8", "fp16"))
    build.add_argument("--out", required=True)
    commands.add_parser("list").add_argument("--json", action="store_true")
    return parser


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["list", "--jsno"], "unknown option --jsno; did you mean --json? See street list --help"),
        (["list", "--zebra=1"], "unknown option --zebra. See street list --help"),
        (["list", "x"], "unexpected argument 'x'. See street list --help"),
        (["lst"], "did you mean list? See street --help"),
        (["build", "x", "--out", "y", "--precision", "in8"], "'in8' .*; did you mean int8?"),
        (["build", "x", "--ot", "y"], "unknown option --ot; did you mean --out?"),
        (["build", "x"], "required: --out. See street build --help"),
        ([], "required: command"),
    ],
)
def test_a_mistake_says_what_was_meant(typed: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")) as caught:
        make().parse(typed)
    assert caught.value.exit_code == 2


def test_options_of_subcommands_are_not_abbreviated() -> None:
    with pytest.raises(UsageError, match="unknown option --js"):
        make().parse(["list", "--js"])


def test_what_is_right_is_parsed() -> None:
    options = parse_command(make, ["build", "x", "--precision", "int8", "--out", "y"], "street")
    assert isinstance(options, argparse.Namespace)
    assert (options.command, options.file, options.precision) == ("build", "x", "int8")


@pytest.mark.parametrize(
    ("command", "typed", "said"),
    [
        (
            rt_seg_engine,
            ["bench", "--precison", "int8"],
            "rt-seg-engine: error: USAGE: unknown option --precison; did you mean --precision? "
            "See rt-seg-engine bench --help\n",
        ),
        (
            rt_seg_model,
            ["export", "a.weights.h5", "a.onnx", "--overwite"],
            "rt-seg-model: error: USAGE: unknown option --overwite; did you mean --overwrite? "
            "See rt-seg-model export --help\n",
        ),
        (
            rt_seg_model,
            ["trian"],
            "did you mean train? See rt-seg-model --help\n",
        ),
    ],
)
def test_both_tools_say_it_in_one_line(
    command: object, typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(typed) == 2  # type: ignore[attr-defined]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith(said)
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "module"),
    [("rt-seg", cli), ("rt-seg-engine", rt_seg_engine), ("rt-seg-model", rt_seg_model)],
)
def test_every_command_says_its_version(
    program: str, module: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{program} ")
    assert any(line.startswith("openvino ") for line in lines[1:])
