"""The short way to class ids gives what the long way gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from rtseg.engines.adapt import adapt_onnx
from rtseg.engines.cut import cut_upsampling
from rtseg.engines.upsample import LabelUpsampler
from tests.engines.networks import TinyNet, assert_labels_of, normalise, random_frames, upsample


@settings(deadline=None, max_examples=150)
@given(
    classes=st.integers(1, 24),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    more=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    factor=st.sampled_from([0, 1, 2, 3, 4, 7, 8, 16]),
    smooth=st.booleans(),
    ties=st.booleans(),
    aligned=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_labels_are_the_argmax_of_the_upsampled_scores(
    classes: int,
    rows: int,
    columns: int,
    more: tuple[int, int],
    factor: int,
    smooth: bool,
    ties: bool,
    aligned: bool,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(0, 3, (classes, rows, columns)).astype(np.float32)
    if smooth:  # large areas of one class, as in pictures
        scores += random.normal(0, 30, (classes, 1, 1)).astype(np.float32)
    if ties:
        scores = np.round(scores / 3).astype(np.float32)
    height, width = rows + more[0], columns + more[1]
    if factor:  # whole, which goes another way
        height, width = rows * factor, columns * factor
    labels = np.empty((height, width), np.uint8)
    LabelUpsampler(rows, columns, height, width, aligned).labels(scores, labels)
    assert_labels_of(labels, upsample(scores, height, width, aligned), 1e-4)


@pytest.mark.parametrize("size", [(3, 16), (16, 3), (0, 16), (-4, 16)])
def test_fewer_labels_than_scores_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"Received: {size[1]}x{size[0]} from 4x4"):
        LabelUpsampler(4, 4, *size)


def test_scores_that_are_not_numbers_are_no_crash() -> None:
    scores = np.full((3, 4, 4), np.nan, np.float32)
    scores[1, :2] = np.inf
    labels = np.empty((16, 16), np.uint8)
    LabelUpsampler(4, 4, 16, 16).labels(scores, labels)
    assert labels.max() < 3


@pytest.mark.parametrize(
    ("stride", "cut"), [(1, False), (2, True), (3, True), (4, True), (5, True)]
)
def test_upsampling_by_two_and_more_is_cut(tmp_path: Path, stride: int, cut: bool) -> None:
    net = TinyNet(height=48, width=48, stride=stride)
    for path in (net.save(tmp_path / "a.onnx"), net.save_ours(tmp_path / "b.onnx")):
        adapted = adapt_onnx(path)
        before = adapted.model.SerializeToString()
        grid = cut_upsampling(adapted.model)
        small = -(-48 // stride)
        assert grid == ((small, small, 48, 48, False) if cut else None)
        if not cut:
            assert adapted.model.SerializeToString() == before


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_cut_network_and_the_upsampler_are_the_network(tmp_path: Path, dtype: str) -> None:
    net = TinyNet(dtype=dtype)
    adapted = adapt_onnx(net.save(tmp_path / "net.onnx"))
    frames = random_frames(net)
    grid = cut_upsampling(adapted.model)
    assert grid is not None
    onnx.checker.check_model(adapted.model, full_check=True)
    session = onnxruntime.InferenceSession(adapted.serialise())
    scores, _ = session.run(["scores", "logit_mean"], {"frames": frames})
    labels = np.empty((net.height, net.width), np.uint8)
    LabelUpsampler(*grid).labels(scores[0], labels)
    expected = upsample(net.logits(normalise(frames[0])), net.height, net.width)
    assert_labels_of(labels, expected, 1e-3 if dtype == "float32" else 0.1)


@pytest.mark.parametrize(
    ("op_type", "attribute", "value"),
    [
        ("Resize", "mode", "nearest"),
        ("Resize", "coordinate_transformation_mode", "asymmetric"),
        ("Resize", "keep_aspect_ratio_policy", "not_larger"),
        ("ArgMax", "select_last_index", 1),
    ],
)
def test_another_kind_of_tail_is_left_alone(
    tmp_path: Path, op_type: str, attribute: str, value: str | int
) -> None:
    adapted = adapt_onnx(TinyNet().save(tmp_path / "net.onnx"))
    node = next(node for node in adapted.model.graph.node if node.op_type == op_type)
    for index, old in enumerate(node.attribute):
        if old.name == attribute:
            del node.attribute[index]
            break
    node.attribute.append(helper.make_attribute(attribute, value))
    assert cut_upsampling(adapted.model) is None
