"""Engine files: written whole or not at all, and whatever is in one, at most an EngineError."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import (
    MAGIC,
    PLAN_FORMAT,
    PlanHeader,
    PlanIdentity,
    is_plan_file,
    read_header,
    read_plan,
    write_plan,
)
from rtseg.engines.registry import open_engine
from rtseg.engines.spec import EngineSpec
from rtseg.engines.tensorrt_layers import Layer

IDENTITY = PlanIdentity(
    backend="rtx",
    runtime_version="1.7.1",
    gpu="any",
    compute_capability="any",
    network="tiny",
    width=48,
    height=32,
    precision="fp16",
    max_batch=8,
    workspace_mib=0,
    file_sha256="a" * 64,
    source_sha256="b" * 64,
    calibration_sha256="",
    maker_version="0.1.0",
)
LAYER = Layer("conv_1", "correlation", ("Half",), ("Half",), ("Half",), ("conv", "act"))
HEADER = PlanHeader(IDENTITY, EngineSpec("tiny", 32, 48), "frames", "labels", (LAYER,), 1.5, "now")
PLAN = bytes(range(256)) * 4
PREFIX = struct.calcsize("<8sII32s")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.engine"
    write_plan(path, HEADER, PLAN)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    header, plan = read_plan(path, IDENTITY)
    assert plan == PLAN
    assert header == read_header(path)
    expected = replace(HEADER, plan_bytes=len(PLAN), plan_sha256=hashlib.sha256(PLAN).hexdigest())
    assert header == expected
    assert is_plan_file(path)
    assert [p.name for p in path.parent.iterdir()] == ["tiny.engine"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"runtime_version": "1.8.0"}, "runtime version 1.7.1, here it is 1.8.0"),
        ({"gpu": "NVIDIA L4"}, "GPU any, here it is NVIDIA L4"),
        ({"compute_capability": "8.9"}, "compute capability any, here it is 8.9"),
        ({"precision": "int8"}, "precision fp16, here it is int8"),
        ({"source_sha256": "c" * 64}, "source sha256 bbbbbbbbbbbb, here it is cccccccccccc"),
        ({"calibration_sha256": "d" * 64}, "calibration sha256 none, here it is dddddddddddd"),
        ({"width": 64}, "width 48, here it is 64"),
    ],
)
def test_a_plan_for_something_else(path: Path, change: dict[str, Any], said: str) -> None:
    wanted = replace(IDENTITY, **change)
    assert wanted.key() != IDENTITY.key()
    with pytest.raises(EngineError) as caught:
        read_plan(path, wanted)
    assert caught.value.reason == "ENGINE_MISMATCH"
    assert str(caught.value) == f"tiny.engine does not fit: built for {said}"


def test_every_field_of_the_identity_changes_the_key() -> None:
    keys = {IDENTITY.key()}
    for name, value in vars(IDENTITY).items():
        keys.add(replace(IDENTITY, **{name: value + (1 if isinstance(value, int) else "x")}).key())
    assert len(keys) == len(vars(IDENTITY)) + 1


def test_a_plan_from_elsewhere_is_warned_of(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_plan(path, trusted=path.parent)
    assert not caplog.records
    read_plan(path, trusted=path.parent / "cache")
    assert "executable code" in caplog.text


def test_another_format_is_a_mismatch(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8:12] = struct.pack("<I", PLAN_FORMAT + 1)
    path.write_bytes(content)
    with pytest.raises(EngineError, match="has engine file format 2, this version reads 1") as got:
        read_header(path)
    assert got.value.reason == "ENGINE_MISMATCH"


@pytest.mark.parametrize("content", [b"ftrt" + PLAN, b"x", MAGIC[:5]])
def test_what_is_no_engine_file_of_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bare.engine"
    path.write_bytes(content)
    with pytest.raises(EngineError, match="no engine file of rt-seg") as caught:
        read_header(path)
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    assert not is_plan_file(path)
    assert not is_plan_file(tmp_path / "absent")


def test_a_changed_plan_is_damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    read_header(path)
    with pytest.raises(EngineError, match="its plan is not what was written") as caught:
        read_plan(path)
    assert caught.value.reason == "ENGINE_DAMAGED"


def sealed(text: bytes) -> bytes:
    """A file whose header is any text, with the right checksum."""
    return struct.pack("<8sII32s", MAGIC, 1, len(text), hashlib.sha256(text).digest()) + text + PLAN


def assert_at_most_an_engine_error(path: Path) -> None:
    reason, message = "", ""
    try:
        read_plan(path)
    except EngineError as error:
        reason, message = error.reason, str(error)
    assert reason in ("", "ENGINE_DAMAGED", "ENGINE_MISMATCH", "ENGINE_UNSUPPORTED")
    assert "\n" not in message


QUICK = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(st.data())
def test_changed_bytes_are_found(path: Path, data: st.DataObject) -> None:
    whole = sealed(replace(HEADER, plan_bytes=len(PLAN)).to_json().encode())
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    path.write_bytes(content)
    assert_at_most_an_engine_error(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@QUICK
@given(st.data())
def test_headers_of_other_values_are_found(path: Path, data: st.DataObject) -> None:
    """A sealed header with wrong values in it, deep inside too."""
    values: Any = json.loads(replace(HEADER, plan_bytes=len(PLAN)).to_json())
    inside = values
    for _ in range(3):
        key = data.draw(st.sampled_from(sorted(inside)))
        if not isinstance(inside[key], dict) or not inside[key] or data.draw(st.booleans()):
            break
        inside = inside[key]
    if data.draw(st.booleans()):
        inside[key] = data.draw(JSON)
    else:
        inside.pop(key, None)
    path.write_bytes(sealed(json.dumps(values).encode()))
    assert_at_most_an_engine_error(path)


@QUICK
@given(st.binary(max_size=64))
def test_headers_of_any_bytes_are_found(path: Path, text: bytes) -> None:
    path.write_bytes(sealed(text))
    with pytest.raises(EngineError):
        read_plan(path)


def test_a_full_disk_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match="No space left") as caught:
        write_plan(path, HEADER, b"new")
    assert caught.value.reason == "NO_SPACE"
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.engine"]
    assert read_plan(path)[1] == PLAN


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot write") as caught:
        write_plan(tmp_path / "absent" / "x.engine", HEADER, PLAN)
    assert caught.value.reason == "NOT_FOUND"


def test_opening_one_says_what_it_is(path: Path) -> None:
    """It is of TensorRT-RTX, so nothing else is tried; without a GPU that is what is missing."""
    from rtseg.engines.cuda import NoGpu, find_gpu

    with pytest.raises(EngineError, match=r"\brtx\b") as caught:
        open_engine(path)
    if isinstance(find_gpu(), NoGpu):
        assert caught.value.reason == "BACKEND_MISSING"
