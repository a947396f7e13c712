"""Log lines for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from rtseg.realtime.log import LOGGER, set_up_logging

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    logger = logging.getLogger(LOGGER)
    before = (logger.handlers[:], logger.propagate, logger.level)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.mark.parametrize(
    ("terminal", "verbose", "journal", "timed"),
    [
        (True, 0, False, False),
        (True, 1, False, True),
        (False, 0, False, True),
        (False, 0, True, False),
    ],
)
def test_lines_that_are_kept_have_a_time(
    terminal: bool, verbose: int, journal: bool, timed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    set_up_logging("text", quiet=False, verbose=verbose, times=True)
    logging.getLogger(LOGGER).warning("cam is away")
    expected = (TIME if timed else "") + "rt-seg: warning: cam is away\n"
    assert re.fullmatch(expected, stream.getvalue())


def test_commands_that_end_by_themselves_say_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logging("text", quiet=False, verbose=0, program="rt-seg-engine")
    logging.getLogger(LOGGER).warning("assumed")
    assert stream.getvalue() == "rt-seg-engine: warning: assumed\n"


def test_json_lines_have_a_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logging("json", quiet=False, verbose=0)
    logging.getLogger(LOGGER).error("gone", extra={"reason": "TIMEOUT"})
    line = json.loads(stream.getvalue())
    assert line["message"] == "gone"
    assert line["reason"] == "TIMEOUT"
    assert re.fullmatch(r"\d{4}-.*Z", line["time"])
