"""Every network of the registry: quantised, and really built in FP16 and INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from rtseg.calibration.calibration_set import select_images
from rtseg.calibration.quantise import quantise_onnx
from rtseg.engines.build import build_engine
from rtseg.models.registry import NETWORKS, build
from tests.calibration.nets import save_images
from tests.engines.rtx import layer_of, rtx

keras = pytest.importorskip("keras", reason="needs the extra 'train'")


def convolutions(path: Path, layers: Any) -> dict[str, str]:
    """The type in which each convolution of an ONNX file was built."""
    found = {}
    for node in onnx.load(path).graph.node:
        if node.op_type == "Conv":
            layer = layer_of(layers, node.name)
            found[node.name] = layer.precision if layer else "absent"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_built_in_fp16_and_int8(name: str, tmp_path: Path) -> None:
    from rtseg.models.export import export_onnx

    rtx()
    keras.utils.set_random_seed(3)
    source = export_onnx(build(name, 64, 64), tmp_path / "net.onnx")
    half = build_engine(source, backend="rtx", precision="fp16", out=tmp_path / "half.engine")
    assert set(convolutions(source, half.header.layers).values()) == {"Half"}

    int8 = tmp_path / "int8.onnx"
    images = select_images(save_images(tmp_path / "images", 2))
    report = quantise_onnx(source, images, int8)
    assert len(report.quantised) > 10
    built = build_engine(int8, backend="rtx", precision="int8", out=tmp_path / "int8.engine")
    types = convolutions(int8, built.header.layers)
    assert {conv for conv, type_ in types.items() if type_ == "Int8"} == set(report.quantised)
    left = {type_ for conv, type_ in types.items() if conv not in report.quantised}
    assert left <= {"Half", "Float"}
