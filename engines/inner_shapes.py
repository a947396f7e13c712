"""Shapes of tensors inside a network that ONNX's own inference leaves open.

It gives up at a Resize whose sizes other nodes compute, or a Reshape to -1, as exporters write
them; OpenVINO computes those.
"""

from __future__ import annotations

from typing import Any

from rtseg.engines import onnxfile
from rtseg.engines.openvino_runtime import load_openvino


def settle_shapes(model: Any, *names: str) -> None:
    """Write the shapes of some tensors into ``model.graph.value_info``, where they can be known.

    Args:
        model: the ``onnx.ModelProto``, its shapes inferred as far as ONNX can.
        names: of tensors of the main graph.
    """
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    ports = {port.name: port for port in onnxfile.ports_of(values)}
    known = {n for n, p in ports.items() if p.shape is not None and None not in p.shape}
    wanted = [name for name in names if name not in known]
    if not wanted:
        return
    try:
        openvino = load_openvino()
    except ImportError:
        return
    from onnx import ModelProto, TensorProto, helper

    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    for name in wanted:
        kind = types.get(name) or TensorProto.FLOAT
        probe.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    try:
        network = openvino.Core().read_model(probe.SerializeToString())
    except RuntimeError:  # whoever computes the network says what is wrong with it
        return
    for output in network.outputs:
        if output.get_partial_shape().is_dynamic:
            continue
        for name in output.get_names() & set(wanted):
            for old in [value for value in model.graph.value_info if value.name == name]:
                model.graph.value_info.remove(old)
            kind = types.get(name) or TensorProto.FLOAT
            shape = [int(length) for length in output.get_shape()]
            model.graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))
