"""The end of an OpenVINO network: what :mod:`rtseg.engines.scores` and ``cut`` are for ONNX."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rtseg.engines.cut import Enlargement
from rtseg.engines.graph import LABELS, SCORES
from rtseg.engines.labels import VOID_ID
from rtseg.engines.openvino_runtime import load_openvino
from rtseg.engines.ports import SegmentationOutput, score_layout

_KEEPS_IDS = ("Convert", "Reshape", "Squeeze", "Unsqueeze")
_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")
_ALIGNED = "align_corners"


def ids_in_floats(end: Any, output: SegmentationOutput) -> SegmentationOutput:
    """Return an output as class ids where it is a maximum's index in floats, else as it is."""
    if output.channels == 1 and _maximum_behind(end) is not None:
        return replace(output, kind="labels", channels=0)
    return output


def scores_behind(
    end: Any, output: SegmentationOutput
) -> tuple[Any, SegmentationOutput] | tuple[None, None]:
    """Return the scores that a network takes its class ids from, and what they are.

    Args:
        end: what gives the class ids, an ``openvino.Output``.
        output: their description.

    Returns:
        Nothing where the ids come from anything but the maximum of at least two channels.
    """
    node = _maximum_behind(end)
    if output.kind != "labels" or node is None:
        return None, None
    scores = node.input_value(0)
    if scores.get_partial_shape().is_dynamic:
        return None, None
    lengths = list(scores.get_shape())
    axes = len(lengths)
    layout = score_layout(axes, node.get_attributes()["axis"])
    if layout is None:
        return None, None
    channels, rows, columns = lengths[-3:] if layout == "nchw" else (lengths[-1], *lengths[-3:-1])
    if (rows, columns) != (output.height, output.width) or not 2 <= channels <= VOID_ID:
        return None, None
    return scores, replace(output, kind="logits", layout=layout, channels=channels, axes=axes)


def _maximum_behind(ids: Any) -> Any | None:
    """Return the TopK whose maxima's indices class ids are, or None."""
    while _keeps_ids(ids.get_node()):
        ids = ids.get_node().input_value(0)
    node = ids.get_node()
    found = node.get_type_name() == "TopK" and ids.get_index() == 1
    return node if found and node.get_attributes()["mode"] == "max" else None


def _keeps_ids(node: Any) -> bool:
    """Tell whether an operation gives the class ids that it takes; as one of a batch, too."""
    if node.get_type_name() != "Gather":
        return node.get_type_name() in _KEEPS_IDS
    axis = node.input_value(2).get_node()
    return axis.get_type_name() == "Constant" and not np.any(axis.get_data())


def before_enlarging(scores: Any) -> Any:
    """Return the scores that others are an enlargement of, or themselves."""
    while scores.get_node().get_type_name() in ("Convert", "Interpolate", "Transpose"):
        scores = scores.get_node().input_value(0)
    return scores


def cut_upsampling(model: Any) -> tuple[Any, Enlargement | None]:
    """Let a network end in its small scores, as :func:`rtseg.engines.cut.cut_upsampling` does.

    Args:
        model: an ``openvino.Model`` whose first output, ``labels``, is made of scores by
            :mod:`rtseg.engines.openvino_ir`.

    Returns:
        The network, with ``scores`` as its first output, and what is left to be done; the network
        as it was and None where it ends in another way.
    """
    openvino = load_openvino()
    from openvino import opset13 as ops

    value = model.outputs[0].get_node().input_value(0)
    for kind in ("Convert", "Squeeze", "TopK"):
        if value.get_node().get_type_name() != kind:
            return model, None
        value = value.get_node().input_value(0)
    while value.get_node().get_type_name() == "Convert":
        value = value.get_node().input_value(0)
    resize = value.get_node()
    if resize.get_type_name() != "Interpolate" or not _is_linear(resize):
        return model, None
    small = resize.input_value(0)
    (_, channels, rows, columns), (height, width) = small.get_shape(), value.get_shape()[2:]
    if height < 2 * rows or width < 2 * columns or channels != value.get_shape()[1]:
        return model, None
    scores = ops.convert(small, "f32")
    scores.output(0).set_names({SCORES})
    rest = [result for result in model.get_results() if LABELS not in _names(result)]
    results = [ops.result(scores, name=SCORES), *rest]
    cut = openvino.Model(results, model.get_parameters(), model.get_friendly_name())
    aligned = resize.get_attributes()["coordinate_transformation_mode"] == _ALIGNED
    return cut, Enlargement(rows, columns, height, width, aligned)


def _names(result: Any) -> set[str]:
    return set(result.input_value(0).get_names())


def _is_linear(resize: Any) -> bool:
    """Tell whether an Interpolate maps all rows and columns to all, linearly."""
    attributes = resize.get_attributes()
    before, after = resize.input_value(0), resize.output(0)
    if (
        attributes["mode"] != "linear_onnx"
        or attributes["coordinate_transformation_mode"] not in (*_HALF_PIXEL, _ALIGNED)
        or attributes["antialias"]
        or any((*attributes["pads_begin"], *attributes["pads_end"]))
        or before.get_partial_shape().is_dynamic
        or after.get_partial_shape().is_dynamic
        or len(before.get_shape()) != 4
    ):
        return False
    if attributes["coordinate_transformation_mode"] == _ALIGNED:
        return True  # whatever the scale
    if attributes["shape_calculation_mode"] == "sizes":
        return True  # the scale is their quotient
    # Opset 4 has sizes before the factors; all axes are meant where none are named.
    first = 2 if resize.get_type_info().version_id == "opset4" else 1
    constants = [resize.input_value(n).get_node() for n in range(first, resize.get_input_size())]
    if any(node.get_type_name() != "Constant" for node in constants):
        return False
    factors, *named = (np.asarray(node.get_data()).ravel() for node in constants)
    axes = named[0] if named else np.arange(4)
    wanted = np.asarray(after.get_shape()) / np.asarray(before.get_shape())
    return bool(np.abs(factors / wanted[axes] - 1).max() < 1e-6)
