"""What is ONNX Runtime's own."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
import pytest
from onnx import helper

from rtseg.engines.errors import EngineError
from rtseg.engines.onnxruntime import OnnxRuntimeEngine
from tests.engines.networks import TinyNet


def test_int8_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = TinyNet(quantised=True).save_ours(tmp_path / "net.onnx")
    with caplog.at_level(logging.WARNING), OnnxRuntimeEngine(path) as engine:
        assert engine.profile().precision == "int8"
    assert "slower with INT8" in caplog.text


def test_it_computes_in_the_files_own_precision(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"own precision, fp32. Received: bf16") as caught:
        OnnxRuntimeEngine(TinyNet().save_ours(tmp_path / "net.onnx"), precision="bf16")
    assert caught.value.reason == "ENGINE_MISMATCH"


def test_an_ir_is_not_for_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not read an OpenVINO IR") as caught:
        OnnxRuntimeEngine(tmp_path / "net.xml")
    assert caught.value.reason == "ENGINE_UNSUPPORTED"


def test_an_operator_of_somebodys_own_is_named_with_its_node(tmp_path: Path) -> None:
    model = TinyNet().proto()
    model.graph.node[1].op_type, model.graph.node[1].domain = "Swirl", "my.company"
    model.opset_import.append(helper.make_opsetid("my.company", 1))
    onnx.save(model, tmp_path / "swirl.onnx")
    with pytest.raises(EngineError, match=r"my\.company\.Swirl.*n_hidden_relu") as caught:
        OnnxRuntimeEngine(tmp_path / "swirl.onnx")
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    assert "\n" not in str(caught.value)
