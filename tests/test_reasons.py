"""Every reason word that the code gives is explained where its errors are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from rtseg.calibration.errors import CalibrationError
from rtseg.engines.errors import EngineError
from rtseg.models.errors import ModelError
from rtseg.realtime.errors import RealtimeError

ROOT = Path(__file__).parents[1]
TABLES = ("realtime/sources/av_errors.py", "realtime/sinks/failure.py", "realtime/ending.py")
"""Files that choose among words in tables of their own."""

_WORD = re.compile(r"[A-Z]+(_[A-Z]+)*")


def words_of(room: str) -> dict[str, str]:
    """Return the reason words in a room's code, each with a file that has it."""
    found: dict[str, str] = {}
    for file in sorted((ROOT / room).rglob("*.py")):
        name = str(file.relative_to(ROOT))
        tree = ast.parse(file.read_text(encoding="utf-8"))
        given: list[ast.AST] = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.keyword) and node.arg == "reason"
        ]
        for node in [tree] if name in TABLES else given:
            for part in ast.walk(node):
                word = part.value if isinstance(part, ast.Constant) else None
                if isinstance(word, str) and _WORD.fullmatch(word) and len(word) > 4:
                    found[word] = name
    return found


@pytest.mark.parametrize(
    ("room", "errors"),
    [
        ("engines", [EngineError]),
        ("calibration", [CalibrationError, EngineError]),
        ("models", [ModelError, CalibrationError, EngineError]),
        ("realtime", [RealtimeError, EngineError]),
        ("tools", [RealtimeError, EngineError, CalibrationError, ModelError]),
    ],
)
def test_reason_words_are_listed(room: str, errors: list[type[Exception]]) -> None:
    listed = set(re.findall(r"``([A-Z_]+)``", " ".join(error.__doc__ or "" for error in errors)))
    found = words_of(room)
    assert len(found) > 4
    assert {word: file for word, file in found.items() if word not in listed} == {}
