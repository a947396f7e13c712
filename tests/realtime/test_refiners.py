"""What the command line asks for between network and picture."""

from __future__ import annotations

import pytest

from rtseg.engines.labels import CITYSCAPES
from rtseg.realtime.arguments import build_parser
from rtseg.realtime.errors import UsageError
from rtseg.realtime.redact import Redactor
from rtseg.realtime.refine import Chain, Refiner
from rtseg.realtime.refiners import build_refiner
from rtseg.realtime.smooth import DEFAULT_FRAMES, Smoother


def built(*words: str) -> Refiner | None:
    options = build_parser().parse(["--source", "drive.mp4", "--out", "null", *words])
    return build_refiner(options, CITYSCAPES)


def links(*words: str) -> list[Refiner]:
    chain = built(*words)
    assert isinstance(chain, Chain)
    return list(chain._links)


def test_nothing_asked_for_is_nothing_done() -> None:
    assert built() is None


def test_the_picture_is_looked_at_before_it_is_covered() -> None:
    assert [type(link) for link in links("--redact", "person", "--smooth")] == [Smoother, Redactor]


def test_options_arrive() -> None:
    words = ["--redact", "rider,person", "--redact-style", "blur", "--redact-margin", "0.1"]
    (redactor,) = links(*words, "--redact-hold", "2")
    assert isinstance(redactor, Redactor)
    options = redactor.options
    assert (options.classes, options.style) == ((11, 12), "blur")
    assert (options.margin, options.hold_s) == (0.1, 2.0)


@pytest.mark.parametrize(("words", "frames"), [([], DEFAULT_FRAMES), (["7"], 7)])
def test_the_strength_of_smoothing(words: list[str], frames: int) -> None:
    (smoother,) = links("--smooth", *words)
    assert isinstance(smoother, Smoother)
    assert smoother.frames == frames


def test_every_stream_gets_a_refiner_of_its_own() -> None:
    options = build_parser().parse(["--source", "a.mp4", "--out", "null", "--redact", "person"])
    assert build_refiner(options, CITYSCAPES) is not build_refiner(options, CITYSCAPES)


@pytest.mark.parametrize("word", ["--redact-style=fill", "--redact-margin=0", "--redact-hold=1"])
def test_an_option_of_redaction_alone_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="does nothing without --redact"):
        built(word)


def test_class_ids_that_are_guessed_cover_nobody() -> None:
    assert built("--redact", "person", "--keyframes", "1") is not None
    with pytest.raises(UsageError, match="every frame"):
        built("--redact", "person", "--keyframes", "2")
    assert built("--smooth", "--keyframes", "2") is not None


@pytest.mark.parametrize("word", ["--smooth=0", "--smooth=11", "--smooth=much", "--redact-hold=x"])
def test_values_outside_the_limits_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="Received"):
        built(word)
