"""Which file, which runtime, which device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.engines.errors import EngineError
from rtseg.engines.registry import BACKENDS, list_backends, open_engine
from rtseg.engines.shipped import ShippedModel, choose_model, shipped_models
from tests.engines.networks import TinyNet, random_frames


def ship(folder: Path, *names: str) -> list[ShippedModel]:
    for name in names:
        (folder / f"{name}.onnx").write_bytes(b"x")
    return shipped_models(folder)


def test_shipped_files_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    found = ship(tmp_path, "espnet-lite-512x256-int8", "fast-scnn-1024x512-fp32", "notes")
    assert [(m.name, m.width, m.height, m.precision) for m in found] == [
        ("espnet-lite", 512, 256, "int8"),
        ("fast-scnn", 1024, 512, "fp32"),
    ]


@pytest.mark.parametrize(
    ("precision", "prefer_int8", "expected"),
    [
        (None, True, "int8"),
        (None, False, "fp32"),
        ("fp32", True, "fp32"),
        ("bf16", True, "fp32"),
        ("fp16", True, "fp32"),
        ("int8", False, "int8"),
    ],
)
def test_the_file_for_a_precision(
    tmp_path: Path, precision: str | None, prefer_int8: bool, expected: str
) -> None:
    models = ship(tmp_path, "net-512x512-fp32", "net-512x512-int8")
    chosen = choose_model(models, "net", precision, prefer_int8=prefer_int8)
    assert chosen.precision == expected


def test_without_an_int8_file_fp32_is_the_default(tmp_path: Path) -> None:
    models = ship(tmp_path, "net-512x512-fp32")
    assert choose_model(models, "net").precision == "fp32"
    with pytest.raises(EngineError, match=r"does not come in int8\. Available: fp32") as caught:
        choose_model(models, "net", "int8")
    assert caught.value.reason == "NOT_FOUND"


def test_the_size_chooses_the_file(tmp_path: Path) -> None:
    models = ship(tmp_path, "net-512x256-fp32", "net-1024x512-fp32")
    assert choose_model(models, "net").width == 1024
    assert choose_model(models, "net", size=(512, 256)).width == 512
    assert choose_model(models, "net", size=(96, 96)).width == 512
    assert choose_model(models, "net", size=(1024, 480)).width == 1024


def test_an_unknown_model_lists_those_there_are(tmp_path: Path) -> None:
    models = ship(tmp_path, "b-net-512x512-fp32", "a-net-512x512-fp32")
    with pytest.raises(EngineError, match=r"unknown model 'c'. Available: a-net, b-net") as caught:
        choose_model(models, "c")
    assert caught.value.reason == "BAD_OPTION"


def test_every_shipped_file_opens() -> None:
    models = shipped_models()
    assert {model.precision for model in models} == {"int8", "fp32"}
    for model in models:
        with open_engine(model.path, backend="openvino") as engine:
            assert (engine.spec.width, engine.spec.height) == (model.width, model.height)
            assert engine.spec.network == model.name


def test_automatic_is_openvino(tmp_path: Path) -> None:
    with open_engine(TinyNet().save_ours(tmp_path / "net.onnx"), cache_dir=tmp_path) as engine:
        assert engine.profile().backend == "openvino"


@pytest.mark.parametrize(
    ("options", "reason", "complaint"),
    [
        ({"backend": "caffe"}, "BAD_OPTION", "Allowed: auto, openvino, onnxruntime, tensorrt"),
        ({"device": "tpu"}, "BAD_OPTION", "Allowed: auto, cpu, cuda:N"),
        ({"device": "cuda:x"}, "BAD_OPTION", "Allowed: auto, cpu, cuda:N"),
        ({"device": "cuda:²"}, "BAD_OPTION", "Allowed: auto, cpu, cuda:N"),
        ({"device": "cpu:1"}, "BAD_OPTION", "Allowed: auto, cpu, cuda:N"),
        ({"device": "auto:1"}, "BAD_OPTION", "Allowed: auto, cpu, cuda:N"),
        (
            {"backend": "rtx", "device": "cpu"},
            "BAD_OPTION",
            "rtx runs on cuda. Received: device cpu",
        ),
        (
            {"backend": "openvino", "device": "cuda"},
            "BAD_OPTION",
            "openvino runs on cpu. Received: device cuda",
        ),
        ({"model": "no-such"}, "BAD_OPTION", "unknown model 'no-such'"),
    ],
)
def test_what_cannot_be_opened(options: dict[str, str], reason: str, complaint: str) -> None:
    with pytest.raises(EngineError, match=complaint) as caught:
        open_engine(**options)  # type: ignore[arg-type]
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_a_file_may_be_named_as_text_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    TinyNet().save_ours(tmp_path / "net.onnx")
    with open_engine("~/net.onnx", cache_dir="~/cache") as engine:
        assert engine.infer(random_frames(TinyNet())).shape == (1, 32, 48)
    assert (tmp_path / "cache").is_dir()


def test_every_backend_says_whether_it_is_there() -> None:
    found = {status.name: status for status in list_backends()}
    assert list(found) == [backend.name for backend in BACKENDS]
    assert found["openvino"].available
    assert found["openvino"].version[0].isdigit()
    assert not found["tensorrt"].available
    if not found["tensorrt"].builds:
        assert "rt-seg[tensorrt]" in found["tensorrt"].reason or "GPU" in found["tensorrt"].reason


WITHOUT = """
import sys
for name in sys.argv[2].split(","):
    sys.modules[name] = None  # what an absent package looks like to the import statement
from rtseg.engines.registry import list_backends, open_engine
from rtseg.engines.errors import EngineError
try:
    with open_engine(sys.argv[1], backend=sys.argv[3]) as engine:
        print(engine.profile().backend)
except EngineError as error:
    print(error.reason, error)
"""


@pytest.mark.parametrize(
    ("absent", "backend", "expected"),
    [
        ("openvino", "auto", "onnxruntime"),
        ("onnxruntime", "auto", "openvino"),
        ("openvino,onnxruntime", "auto", "BACKEND_MISSING"),
        ("openvino", "openvino", "BACKEND_MISSING"),
    ],
)
def test_what_is_not_installed_is_passed_over_or_named(
    tmp_path: Path, absent: str, backend: str, expected: str
) -> None:
    path = TinyNet().save_ours(tmp_path / "net.onnx")
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(path), absent, backend],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert said.startswith(expected)
    assert "\n" not in said
    if expected == "BACKEND_MISSING":
        assert "pip install" in said


def test_importing_the_registry_imports_no_runtime() -> None:
    code = (
        "import sys, rtseg.engines.registry;"
        "print([m for m in ('openvino', 'onnxruntime', 'onnx', 'tensorflow') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
