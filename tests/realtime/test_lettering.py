from __future__ import annotations

import logging

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.realtime import lettering
from rtseg.realtime.lettering import drawable


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("traffic light", "traffic light"),
        ("Straße", "Strasse"),
        ("café, Żółw, Ångström, œuvre", "cafe, Zolw, Angstrom, oeuvre"),
        ("道路", "??"),
        ("½ …", "1?2 ..."),
        ("a\udcff\n", "a??"),
    ],
)
def test_letters_without_accents(text: str, plain: str) -> None:
    assert drawable(text, unicode=False) == plain


def test_opencv_5_draws_letters_as_they_are() -> None:
    assert drawable("Straße, 道路", unicode=True) == "Straße, 道路"
    assert drawable("a\udcff", unicode=True) == "a?"


def test_what_is_lost_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lettering, "_said", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            drawable("道路", unicode=False)
            drawable("café?", unicode=False)
    assert [record.getMessage() for record in caplog.records] == [
        "'道路' is shown as '??': OpenCV 4 draws ASCII alone, OpenCV 5 more"
    ]


@given(st.text(max_size=30))
def test_opencv_takes_whatever_comes_out(text: str) -> None:
    for unicode in (None, False):
        cv2.getTextSize(drawable(text, unicode=unicode), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
