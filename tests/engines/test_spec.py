"""What an engine file says of itself survives the file, and nonsense is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engines.errors import EngineError
from rtseg.engines.labels import CITYSCAPES, ClassTable, distinct_palette
from rtseg.engines.spec import FORMAT_VERSION, EngineSpec

SPEC = EngineSpec("net", 512, 512, extra={"note": "x"})


@given(
    st.integers(1, 60),
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.sampled_from(["fp32", "fp16", "bf16", "int8"]),
    st.tuples(*[st.floats(-10, 10)] * 3),
)
def test_round_trip(
    count: int, height: int, width: int, precision: Any, mean: tuple[float, float, float]
) -> None:
    table = ClassTable(tuple(f"class {n}" for n in range(count)), distinct_palette(count))
    spec = EngineSpec("net", height, width, table, precision=precision, mean=mean)
    assert EngineSpec.from_json(spec.to_json()) == spec


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.sampled_from([f.name for f in dataclasses.fields(EngineSpec)]), json_values)
def test_any_field_is_read_or_refused_in_one_line(field: str, value: Any) -> None:
    described = json.loads(SPEC.to_json())
    described[field] = value
    with contextlib.suppress(EngineError):  # anything else would be a traceback for the user
        EngineSpec.from_json(json.dumps(described))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format_version": 1}', "[" * 9999])
def test_what_is_no_description_is_damaged(text: str) -> None:
    with pytest.raises(EngineError) as caught:
        EngineSpec.from_json(text)
    assert caught.value.reason == "ENGINE_DAMAGED"


def test_numbers_beyond_floats_are_damage() -> None:
    described = json.loads(SPEC.to_json())
    described["mean"] = [10**400, 0, 0]
    with pytest.raises(EngineError):
        EngineSpec.from_json(json.dumps(described))


def test_a_newer_format_is_a_mismatch() -> None:
    described = json.loads(SPEC.to_json())
    described["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(EngineError, match="upgrade") as caught:
        EngineSpec.from_json(json.dumps(described))
    assert caught.value.reason == "ENGINE_MISMATCH"


def test_the_cityscapes_table_is_the_data_sets() -> None:
    assert len(CITYSCAPES) == 19
    assert CITYSCAPES.label_ids[CITYSCAPES.index("Traffic_Light")] == 19
    assert CITYSCAPES.palette[CITYSCAPES.index("road")] == (128, 64, 128)
    with pytest.raises(KeyError, match="Allowed"):
        CITYSCAPES.index("raod")


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": (), "palette": ()},
        {"names": ("a", "a"), "palette": ((0, 0, 0),) * 2},
        {"names": ("a",), "palette": ()},
        {"names": ("a",), "palette": ((0, 0, 256),)},
        {"names": ("a",), "palette": ((0, 0, 0),), "label_ids": (1, 2)},
    ],
)
def test_tables_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received"):
        ClassTable(**wrong)


@given(st.integers(0, 255))
def test_distinct_colours_are_distinct(count: int) -> None:
    colours = distinct_palette(count)
    assert len(set(colours)) == count
