"""Every name of TensorRT that the adapter uses exists: in 10.x's type stubs, and in RTX itself.

TensorRT's own module needs NVIDIA's libraries; its stubs do not: ``pip install --no-deps
tensorrt-stubs``.
"""

from __future__ import annotations

import ast
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rtseg import engines
from rtseg.engines.errors import EngineError
from rtseg.engines.tensorrt import load_runtime

ROOM = Path(engines.__file__).parent
# What stands for which class, in each file.
OBJECTS = {
    "tensorrt.py": {
        "builder": "Builder",
        "config": "IBuilderConfig",
        "definition": "INetworkDefinition",
        "frames": "ITensor",
        "parser": "OnnxParser",
        "profile": "IOptimizationProfile",
    },
    "targets.py": {"config": "IBuilderConfig"},
    "tensorrt_log.py": {},
    "tensorrt_plan.py": {
        "engine": "ICudaEngine",
        "_engine": "ICudaEngine",
        "_runtime": "Runtime",
        "context": "IExecutionContext",
        "_context": "IExecutionContext",
        "config": "IRuntimeConfig",
        "_cache": "IRuntimeCache",
    },
}
RTX_ONLY = {
    ("ComputeCapability", ""),
    ("CudaGraphStrategy", ""),
    ("DynamicShapesKernelSpecializationStrategy", ""),
    ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("ICudaEngine", "create_runtime_config"),
    ("IRuntimeConfig", "cuda_graph_strategy"),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
    ("IRuntimeConfig", "create_runtime_cache"),
    ("IRuntimeConfig", "set_runtime_cache"),
    ("IRuntimeCache", "serialize"),
    ("IRuntimeCache", "deserialize"),
}


def used() -> set[tuple[str, str]]:
    """The (class, member) pairs that the adapter's source names; no member for the class."""
    found = set()
    for file, objects in OBJECTS.items():
        for node in ast.walk(ast.parse((ROOM / file).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            chain = ast.unparse(node).split(".")
            if chain[0] == "self":
                chain = chain[1:]
            if chain[0] in ("trt", "_trt") and len(chain) in (2, 3):
                found.add((chain[1], chain[2] if len(chain) == 3 else ""))
            elif chain[0] in objects and len(chain) == 2:
                found.add((objects[chain[0]], chain[1]))
    return {pair for pair in found if not pair[0].startswith("__")}


def stubs() -> dict[str, set[str]]:
    """The members of each class in TensorRT's stubs; functions and constants have none."""
    try:
        files = metadata.files("tensorrt-stubs") or []
    except metadata.PackageNotFoundError:
        pytest.skip("needs the stubs: pip install --no-deps tensorrt-stubs")
    (path,) = [file for file in files if file.name == "tensorrt.pyi"]
    # Not parsed: in one of its functions the stubs are no valid Python.
    classes: dict[str, set[str]] = {}
    members: set[str] = set()
    for line in Path(str(path.locate())).read_text(encoding="utf-8").splitlines():
        if found := re.match(r"class (\w+)", line):
            members = classes[found[1]] = set()
        elif found := re.match(r"(\w+): ", line):
            classes[found[1]] = members = set()
        elif found := re.match(r" {4}(?:def (\w+)|(\w+)\s*[:=])", line):
            members.add(found[1] or found[2])
    return classes


def test_names_are_those_of_tensorrt_10() -> None:
    known = stubs()
    wanted = used() - RTX_ONLY
    assert len(wanted) > 30
    missing = {
        (kind, member)
        for kind, member in wanted
        if kind not in known or (member and member not in known[kind])
    }
    assert not missing


def test_names_are_those_of_rtx() -> None:
    try:
        trt: Any = load_runtime("rtx")
    except EngineError as error:
        pytest.skip(str(error))
    missing = {
        (kind, member)
        for kind, member in used()
        if not hasattr(trt, kind) or (member and not hasattr(getattr(trt, kind), member))
    }
    assert not missing


def test_no_call_is_left_that_tensorrt_11_removed() -> None:
    gone = (
        r"int8_calibrator|IInt8|BuilderFlag\.(?!TF32)|platform_has_fast|dynamic_range"
        r"|EXPLICIT_BATCH"
    )
    for file in OBJECTS:
        assert not re.search(gone, (ROOM / file).read_text(encoding="utf-8"))
