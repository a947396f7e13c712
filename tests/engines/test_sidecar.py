from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.errors import EngineError
from rtseg.engines.labels import CITYSCAPES
from rtseg.engines.sidecar import Sidecar, default_classes, parse_sidecar, read_sidecar
from rtseg.engines.spec import EngineSpec


def test_no_note_says_nothing(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path / "net.onnx") == Sidecar()


def test_a_note_may_say_everything(tmp_path: Path) -> None:
    note = {
        "network": "mine",
        "width": 640,
        "height": 320,
        "mean": [1, 2, 3],
        "std": [4, 5, 6],
        "scale": 1,
        "bgr": True,
        "pad": 114,
        "classes": ["a", "b"],
        "palette": [[1, 2, 3], [4, 5, 6]],
        "use_channels": 2,
        "input": "x",
        "output": "y",
        "licence": "mine alone",
    }
    (tmp_path / "net.onnx.json").write_text(json.dumps(note))
    found = read_sidecar(tmp_path / "net.onnx")
    assert found.size == (640, 320)
    assert (found.mean, found.std, found.scale, found.bgr) == ((1, 2, 3), (4, 5, 6), 1.0, True)
    assert found.pad == 114
    assert found.classes is not None
    assert found.classes.names == ("a", "b")
    assert found.classes.palette == ((1, 2, 3), (4, 5, 6))
    assert (found.input, found.output, found.use_channels) == ("x", "y", 2)


def test_a_whole_engine_spec_may_be_pasted() -> None:
    spec = EngineSpec(network="n", height=32, width=64, bgr=True)
    found = parse_sidecar(json.loads(spec.to_json()))
    assert (found.network, found.size, found.bgr) == ("n", (64, 32), True)
    assert found.classes is not None
    assert found.classes.names == CITYSCAPES.names
    assert found.classes.palette == CITYSCAPES.palette


@pytest.mark.parametrize("given_classes", ["cityscapes", list(CITYSCAPES.names)])
def test_cityscapes_by_name_or_by_its_names(given_classes: Any) -> None:
    assert parse_sidecar({"classes": given_classes}).classes is CITYSCAPES


@pytest.mark.parametrize(
    ("note", "complaint"),
    [
        ([1], "JSON object"),
        ({"means": [1, 2, 3]}, "unknown field means. Allowed: .*mean"),
        ({"mean": [1, 2]}, "mean must be a list of three"),
        ({"mean": [1, 2, "3"]}, "mean must be a number. Received: '3'"),
        ({"std": [1, 0, 1]}, "must not be 0"),
        ({"scale": 0}, "must not be 0"),
        ({"scale": float("nan")}, "scale must be a number"),
        ({"bgr": "yes"}, "bgr must be true or false"),
        ({"classes": 19}, 'classes must be "cityscapes" or a list'),
        ({"classes": ["a", "a"]}, "class names must differ"),
        ({"classes": ["a"], "palette": [[0, 0, 256]]}, "0..255"),
        ({"palette": [[0, 0, 0]]}, "palette needs classes"),
        ({"use_channels": 0}, "whole number from 1"),
        ({"use_channels": True}, "whole number from 1"),
        ({"height": 2.5}, "whole number from 1"),
        ({"network": 5}, "must be a text"),
    ],
)
def test_a_wrong_note_says_what_is_wrong(tmp_path: Path, note: Any, complaint: str) -> None:
    (tmp_path / "net.onnx.json").write_text(json.dumps(note))
    with pytest.raises(EngineError, match=complaint) as caught:
        read_sidecar(tmp_path / "net.onnx")
    assert caught.value.reason == "BAD_INPUT"
    assert "net.onnx.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "\x00\xff", "[" * 5000])
def test_a_note_that_is_no_json_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.onnx.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(EngineError) as caught:
        read_sidecar(tmp_path / "net.onnx")
    assert caught.value.reason == "BAD_INPUT"


def test_a_number_beyond_floats_is_an_error(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    (tmp_path / "net.onnx.json").write_text('{"scale": 1' + "0" * 400 + "}")
    with pytest.raises(EngineError) as caught:
        read_sidecar(model)
    assert caught.value.reason == "BAD_INPUT"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["mean", "std", "scale", "bgr", "classes", "palette", "use_channels"]),
        values,
    )
)
def test_whatever_a_note_holds_it_is_read_or_refused(note: dict[str, Any]) -> None:
    try:
        found = parse_sidecar(note)
    except (ValueError, TypeError, KeyError, OverflowError):
        return  # what read_sidecar turns into an EngineError
    assert found.scale != 0


@given(st.integers(1, 255))
def test_there_is_a_class_table_for_every_count(count: int) -> None:
    table = default_classes(count)
    assert len(table) == count
    assert len(set(table.palette)) == count
    assert (table is CITYSCAPES) == (count == 19)
