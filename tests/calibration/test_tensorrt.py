"""TensorRT builds the very file that OpenVINO runs; TensorRT-RTX does so without a GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rtseg.calibration.calibration_set import select_images
from rtseg.calibration.quantise import quantise_onnx
from rtseg.engines.shipped import shipped_models
from tests.calibration.nets import save_images

pytest.importorskip("tensorrt_rtx_libs", reason="needs rt-seg[rtx]")
trt: Any = pytest.importorskip("tensorrt_rtx_bindings", reason="needs rt-seg[rtx]")


class Log(trt.ILogger):  # type: ignore[misc]
    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []
        self.complaints: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        self.lines += message.splitlines()
        if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
            self.complaints.append(message)


def test_convolutions_are_built_in_int8(tmp_path: Path) -> None:
    shipped = [m for m in shipped_models() if m.name == "espnet-lite" and m.precision == "fp32"]
    if not shipped:
        pytest.skip("this installation ships no FP32 network")
    images = select_images(save_images(tmp_path / "images", 2))
    out = tmp_path / "int8.onnx"
    report = quantise_onnx(shipped[0].path, images, out, keep_fp32=["stem"])

    log = Log()
    builder = trt.Builder(log)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    definition = builder.create_network(flags)
    parser = trt.OnnxParser(definition, log)
    errors = [] if parser.parse(out.read_bytes()) else range(parser.num_errors)
    assert not [str(parser.get_error(n)) for n in errors]
    frames = definition.get_input(0)
    profile = builder.create_optimization_profile()
    size = (shipped[0].height, shipped[0].width, 3)
    profile.set_shape(frames.name, (1, *size), (1, *size), (2, *size))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    assert builder.build_serialized_network(definition, config) is not None
    assert not log.complaints

    built = {}
    for line in log.lines:
        match = re.match(r"Name: (\w+?)_U\d+_\w+, LayerType: correlation", line)
        if match:
            built[match[1]] = set(re.findall(r"Datatype: (\w+)", line))
    assert set(built) >= set(report.quantised)
    for name, types in built.items():
        assert ("Int8" in types) == (name in report.quantised), name
