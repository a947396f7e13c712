"""TensorRT builds the very file that OpenVINO runs; TensorRT-RTX does so without a GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from rtseg.calibration.calibration_set import select_images
from rtseg.calibration.quantise import quantise_onnx
from rtseg.engines.shipped import shipped_models
from rtseg.engines.tensorrt import build_plan
from tests.calibration.nets import save_images
from tests.engines.rtx import layer_of, rtx


def test_convolutions_are_built_in_int8(tmp_path: Path) -> None:
    rtx()
    shipped = [m for m in shipped_models() if m.name == "espnet-lite" and m.precision == "fp32"]
    if not shipped:
        pytest.skip("this installation ships no FP32 network")
    images = select_images(save_images(tmp_path / "images", 2))
    out = tmp_path / "int8.onnx"
    report = quantise_onnx(shipped[0].path, images, out, keep_fp32=["stem"])

    model = onnx.load(out)
    built = build_plan(model, "rtx")
    assert not built.warnings
    convs = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert convs >= set(report.quantised)
    for name in convs:
        layer = layer_of(built.layers, name)
        assert layer is not None
        assert (layer.precision == "Int8") == (name in report.quantised), name
