"""One hash for all that decides what a network computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx

from rtseg.engines.fingerprint import network_sha256
from rtseg.engines.onnxfile import file_sha256
from tests.engines.networks import TinyNet


def test_a_file_that_stands_alone_has_its_own_hash(tmp_path: Path) -> None:
    path = TinyNet().save(tmp_path / "net.onnx")
    assert network_sha256(path) == file_sha256(path)


def test_the_note_counts(tmp_path: Path) -> None:
    path = TinyNet().save(tmp_path / "net.onnx")
    note = tmp_path / "net.onnx.json"
    seen = {network_sha256(path)}
    for scale in (255, 64):
        note.write_text(json.dumps({"scale": scale}), "utf-8")
        seen.add(network_sha256(path))
    assert len(seen) == 3


def test_weights_in_a_second_file_count(tmp_path: Path) -> None:
    model = TinyNet().proto()
    path = tmp_path / "net.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="weights", size_threshold=0)
    before, alone = network_sha256(path), file_sha256(path)
    weights = np.fromfile(tmp_path / "weights", np.float32)
    (weights * 2).tofile(tmp_path / "weights")
    assert file_sha256(path) == alone
    assert network_sha256(path) != before


def test_what_is_no_onnx_is_still_a_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"nothing")
    assert network_sha256(path) == file_sha256(path)
