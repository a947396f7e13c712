"""The fastest precision of the processor at hand: known where it can be, else tried and kept."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from rtseg.engines.openvino import OpenVinoEngine
from rtseg.engines.openvino_network import read_network
from rtseg.engines.openvino_precision import possible_hints, quickest, recall, remember
from tests.engines.networks import TinyNet

ABLE = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Core:
    """An ``openvino.Core`` of another processor."""

    def __init__(self, *able: str) -> None:
        self._able = list(able)

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._able


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only :class:`Compiled` moves, so that a busy machine changes nothing."""
    Compiled.now_s = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: Compiled.now_s)


class Compiled:
    """Takes a given time for a frame, the first one apart."""

    now_s = 0.0

    def __init__(self, *times_s: float) -> None:
        self._times_s = list(times_s)
        self.frames = 0
        self.inputs = [np.zeros((1, 8, 8, 3))]

    def create_infer_request(self) -> Compiled:
        return self

    def infer(self, inputs: list[Any]) -> None:
        (frame,) = inputs
        assert frame.shape == (1, 8, 8, 3)
        assert frame.dtype == np.uint8
        Compiled.now_s += self._times_s[min(self.frames, len(self._times_s) - 1)]
        self.frames += 1


@pytest.mark.parametrize(
    ("quantised", "mostly_int8", "able", "amx", "hints"),
    [
        (False, False, ("FP32",), False, ("f32",)),
        (False, False, ("FP32", "BF16"), True, ("bf16",)),
        (False, False, ("FP32", "BF16"), False, ("f32", "bf16")),
        (True, True, ("FP32", "INT8"), False, ("f32",)),
        (True, True, ("FP32", "INT8", "BF16"), True, ("bf16",)),
        (True, True, ("FP32", "INT8", "BF16"), False, ("f32",)),
        (True, False, ("FP32", "INT8", "BF16"), False, ("f32", "bf16")),
    ],
)
def test_what_is_known_needs_no_trial(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quantised: bool,
    mostly_int8: bool,
    able: tuple[str, ...],
    amx: bool,
    hints: tuple[str, ...],
) -> None:
    monkeypatch.setattr("rtseg.engines.openvino_precision.multiplies_bf16_matrices", lambda: amx)
    path = TinyNet(quantised=quantised).save_ours(tmp_path / "net.onnx")
    read = read_network(openvino.Core(), path)
    read = dataclasses.replace(read, mostly_int8=mostly_int8)
    for asked in (None, "auto", *(["int8"] if quantised else [])):
        assert possible_hints(Core(*able), read, asked) == hints
    for hint in set(hints) & {"f32"}:
        openvino.Core().set_property("CPU", {"INFERENCE_PRECISION_HINT": hint})


@pytest.mark.usefixtures("clock")
def test_the_quickest_is_taken_by_its_best_run() -> None:
    slow, quick = Compiled(0.001, 0.02), Compiled(0.05, 0.03, 0.002, 0.03)
    assert quickest({"f32": slow, "bf16": quick}) == "f32"  # warm-up counts if it was the best
    slow, quick = Compiled(0.02), Compiled(0.05, 0.03, 0.002, 0.03)
    assert quickest({"f32": slow, "bf16": quick}) == "bf16"


@pytest.mark.usefixtures("clock")
def test_the_more_exact_one_is_taken_where_it_makes_no_difference() -> None:
    assert quickest({"f32": Compiled(0.0500), "bf16": Compiled(0.0490)}) == "f32"


@pytest.mark.usefixtures("clock")
def test_large_networks_are_not_tried_for_long() -> None:
    large = Compiled(0.3)
    assert quickest({"f32": large, "bf16": Compiled(0.1)}) == "bf16"
    assert large.frames == 2


@pytest.mark.parametrize("content", [b"f16", b"", b"\xff", b"f32 "])
def test_what_cannot_be_read_is_tried_again(tmp_path: Path, content: bytes) -> None:
    kept = tmp_path / "precision-0"
    assert recall(kept, ("f32", "bf16")) is None
    kept.write_bytes(content)
    assert recall(kept, ("f32", "bf16")) is None
    remember(kept, "bf16")
    assert recall(kept, ("f32", "bf16")) == "bf16"
    assert [path.name for path in tmp_path.iterdir()] == ["precision-0"]


def test_no_place_to_keep_it_is_no_harm(tmp_path: Path) -> None:
    remember(None, "f32")
    remember(tmp_path / "none" / "precision-0", "f32")
    assert recall(None, ("f32",)) is None
    (tmp_path / "precision-0").mkdir()
    remember(tmp_path / "precision-0", "f32")
    assert recall(tmp_path / "precision-0", ("f32",)) is None
    assert list(tmp_path.iterdir()) == [tmp_path / "precision-0"]


@pytest.mark.skipif("BF16" not in ABLE, reason="this processor has no BF16")
def test_a_trial_is_made_once_for_a_network_and_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rtseg.engines.openvino_precision.multiplies_bf16_matrices", lambda: False)
    caplog.set_level(logging.INFO, "rtseg.engines.openvino_precision")
    path = TinyNet(dynamic=("hw",)).save(tmp_path / "net.onnx")
    chosen = set()
    for size, trials in (((48, 32), 1), ((48, 32), 1), ((96, 64), 2), ((48, 32), 2)):
        with OpenVinoEngine(path, size=size, cache_dir=tmp_path / "cache") as engine:
            chosen.add((size, engine.profile().precision))
        assert caplog.text.count("tried: f32") == trials
    assert len(chosen) == 2
    with OpenVinoEngine(path, size=(48, 32), precision="fp32", cache_dir=tmp_path / "cache"):
        pass
    assert caplog.text.count("tried: f32") == 2
