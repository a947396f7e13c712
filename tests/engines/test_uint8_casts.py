from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from rtseg.engines.deployable import read_deployable
from rtseg.engines.uint8_casts import cast_through_float
from tests.engines.networks import TinyNet, random_frames


@pytest.mark.parametrize("end", ["nchw", "nhw"])
def test_class_ids_are_floats_before_they_are_bytes_and_stay_the_same(
    tmp_path: Path, end: str
) -> None:
    net = TinyNet(end=end)
    model = read_deployable(net.save(tmp_path / "net.onnx")).model
    before = model.SerializeToString()
    changed = cast_through_float(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(changed, full_check=True)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(changed).graph.value_info
    }
    casts = [
        node
        for node in changed.graph.node
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.UINT8
    ]
    assert casts
    assert {types[node.input[0]] for node in casts} == {TensorProto.FLOAT}
    frames = random_frames(net)
    ran = [
        onnxruntime.InferenceSession(one.SerializeToString()).run(["labels"], {"frames": frames})
        for one in (model, changed)
    ]
    assert np.array_equal(ran[0][0], ran[1][0])
