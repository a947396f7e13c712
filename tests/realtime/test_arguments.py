"""What may be typed: limits, suggestions, and values that say what they should have been."""

from __future__ import annotations

import argparse
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime.argument_values import alpha, number
from rtseg.realtime.arguments import build_parser
from rtseg.realtime.cli import main
from rtseg.realtime.errors import UsageError


def test_defaults() -> None:
    options = build_parser().parse(["--source", "drive.mp4"])
    assert (options.source, options.out, options.view, options.alpha) == (
        ["drive.mp4"],
        [],
        "overlay",
        0.5,
    )
    assert (options.hud, options.progress, options.profile) == (None, None, None)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("--sorce", "--source"), ("--outt", "--out"), ("--warm-up", "--warmup")],
)
def test_an_unknown_option_is_refused_with_a_suggestion(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        build_parser().parse(["--source", "x", typed, "1"])


def test_options_are_not_abbreviated() -> None:
    with pytest.raises(UsageError, match="unknown option --sour"):
        build_parser().parse(["--sour", "x"])


@pytest.mark.parametrize(
    "typed",
    [
        ["--alpha", "nan"],
        ["--alpha", "-0.1"],
        ["--stride", "0"],
        ["--stride", "1.5"],
        ["--max-frames", "-3"],
        ["--max-fps", "0"],
        ["--max-fps", "inf"],
        ["--start", "-1"],
        ["--duration", "0"],
        ["--timeout", "soon"],
        ["--width", "-640"],
        ["--threads", "-2"],
        ["--view", "inside-out"],
        ["--backend", "caffe"],
        ["--label-ids", "coco"],
        ["--crf", "99"],
        ["--jsonl", ""],
        ["--labels-out="],
        ["--trace", ""],
        ["--view", "input", "--view", "overlay"],
        ["--crf", "20", "--out", "null", "--crf", "30"],
        ["--stride", "9" * 400],
        ["--stride", "9" * 5000],
        ["--max-frames", "1" + "0" * 30],
        ["--bitrate", "9" * 400],
        ["--bitrate", "3000M"],
        ["--input-size", "9" * 400 + "x544"],
    ],
)
def test_values_outside_the_limits_are_usage_errors(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--source", "testsrc", "--out", "null", *typed]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("rt-seg: error: USAGE: ")
    assert typed[0].rstrip("=") in said


def test_an_option_of_all_outputs_is_typed_once_or_alike() -> None:
    parser = build_parser()
    with pytest.raises(UsageError, match=r"--view: .*all its outputs.* Received: input and mask"):
        parser.parse(["x", "--view", "input", "--out", "a.mp4", "--view", "mask"])
    assert parser.parse(["x", "--view", "mask", "--view", "mask"]).view == "mask"
    # what a container's entry point says may be said anew
    assert parser.parse(["x", "--max-frames", "1", "--max-frames", "2"]).max_frames == 2


def test_a_percentage_gets_the_converted_value() -> None:
    with pytest.raises(UsageError, match=r"did you mean 0\.6\?"):
        build_parser().parse(["--alpha", "60"])


@given(st.floats())
def test_alpha_is_exactly_zero_to_one(value: float) -> None:
    if 0.0 <= value <= 1.0:
        assert alpha(repr(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 1"):
            alpha(repr(value))


@given(st.integers(-1000, 1000), st.integers(-500, 500), st.integers(0, 500))
def test_limits_hold(value: int, least: int, span: int) -> None:
    convert = number(int, least, least + span)
    if least <= value <= least + span:
        assert convert(str(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="Received"):
            convert(str(value))


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_an_error_line(text: str) -> None:
    convert = number(float, 0, above=True)
    try:
        expected = float(text)
    except ValueError:
        expected = math.nan
    if math.isfinite(expected) and expected > 0:
        assert convert(text) == expected
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="Received"):
            convert(text)


@pytest.mark.parametrize(
    ("typed", "cause"),
    [
        ([], "nothing to segment"),
        (["a.mp4", "b.mp4", "c.mp4"], "one source and one output at most"),
        (["--source", "a.mp4", "b.mp4"], "--source for each"),
        (["testsrc", "--headless", "--out", "window"], "exclude each other"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    typed: list[str], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert cause in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "typed",
    [
        ["testsrc", "--max-frames", "1", "null"],
        ["--max-frames", "1", "testsrc", "null"],
        ["testsrc", "null", "--max-frames", "1"],
        ["-q", "testsrc", "--max-frames", "1", "--no-audio", "null", "-y"],
    ],
)
def test_words_stand_before_between_and_after_options(typed: list[str]) -> None:
    options = build_parser().parse(typed)
    assert (options.positional, options.max_frames) == (["testsrc", "null"], 1)


def test_two_words_around_options_are_not_three(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a.mp4", "--max-frames", "1", "b.mp4", "--no-audio", "c.mp4"]) == 2
    assert "one source and one output at most. Received: a.mp4 b.mp4" in capsys.readouterr().err
    assert build_parser().parse(["--", "-a.mp4", "-b.mp4"]).positional == ["-a.mp4", "-b.mp4"]
    assert build_parser().parse(["testsrc", "--stride", "2", "-"]).positional == ["testsrc", "-"]


@pytest.mark.parametrize(
    "typed",
    [
        ["testsrc", "null", "rtsp://u:secret@h/x"],
        ["rtsp://u:secret@h/x", "--source", "testsrc"],
        ["testsrc", "--alpha", "rtsp://u:secret@h/x"],
        ["testsrc", "--view=rtsp://u:secret@h/x"],
        ["testsrc", "--rtsp://u:secret@h/x"],
        ["testsrc", "--classes", "rtsp://u:secret @h/x", "--out", "null"],
        ["testsrc", "--profile", "rtmp://h/app/secret"],
        ["testsrc", "--out", "null", "--engine", "rtsp://u:secret@h/x"],
        ["testsrc", "--out", "null", "--palette", "rtsp://u:secret@h/x"],
        ["testsrc", "--log-format=json", "--bitrate", "rtsp://u:secret@h/x", "--out", "null"],
    ],
)
def test_no_mistake_repeats_a_password(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) in (1, 2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "***" in said
    assert "secret" not in said


def test_help_and_version_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--labels-out" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rt-seg ")


@pytest.mark.parametrize(
    ("text", "wanted_s"),
    [("60s", 60), ("60", 60), ("10m", 600), ("1.5 min", 90), ("1h", 3600), ("1:02:03", 3723)],
)
def test_lengths_of_segments(text: str, wanted_s: int) -> None:
    assert build_parser().parse(["--segment", text]).segment == wanted_s


@pytest.mark.parametrize("text", ["", "-5", "60x", "1:75", "ten", "1e3", "60 s s", "\u0663"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(UsageError, match="60s, 10m, 1h or 90"):
        build_parser().parse([f"--segment={text}"])
