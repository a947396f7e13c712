"""Engines for other GPUs than the one at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtseg.engines.build import build_engine
from rtseg.engines.cuda import Gpu
from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import PlanIdentity
from rtseg.engines.targets import AMPERE_SHOWN, check_target, misfit, shown_target
from rtseg.engines.tensorrt import PlanOptions
from tests.calibration.nets import save_network
from tests.engines.rtx import rtx

ADA = Gpu("Ada", "8.9")
IDENTITY = PlanIdentity(
    backend="tensorrt",
    runtime_version="10.3.0",
    gpu="Ada",
    compute_capability="8.9",
    network="tiny",
    width=32,
    height=32,
    precision="fp16",
    max_batch=1,
    workspace_mib=0,
    file_sha256="a",
    source_sha256="b",
    calibration_sha256="",
    maker_version="0",
)


@pytest.mark.parametrize(
    ("runtime", "asked", "target"),
    [
        ("tensorrt", "this", ""),
        ("tensorrt", "ampere+", "ampere+"),
        ("tensorrt", "same-capability", "same-capability"),
        ("rtx", "any", ""),
        ("rtx", "12.0, 8.6,8.6", "8.6,12.0"),
    ],
)
def test_a_target_has_one_form(runtime: str, asked: str, target: str) -> None:
    assert check_target(runtime, asked) == target


@pytest.mark.parametrize(
    ("runtime", "asked"), [("tensorrt", "8.6"), ("tensorrt", "any"), ("rtx", "this"), ("rtx", "86")]
)
def test_another_target_is_refused(runtime: str, asked: str) -> None:
    with pytest.raises(EngineError, match="Allowed: ") as caught:
        check_target(runtime, asked)
    assert caught.value.reason == "BAD_OPTION"


GPUS = (ADA, Gpu("Ada's sister", "8.9"), Gpu("Blackwell", "12.0"), Gpu("Turing", "7.5"))


@pytest.mark.parametrize(
    ("runtime", "target", "shown", "runs_on"),
    [
        ("tensorrt", "", ("Ada", "8.9"), GPUS[:1]),
        ("tensorrt", "ampere+", ("any", AMPERE_SHOWN), GPUS[:3]),
        ("tensorrt", "same-capability", ("any", "8.9"), GPUS[:2]),
        ("rtx", "", ("any", "any"), GPUS),
        ("rtx", "8.6,12.0", ("any", "8.6, 12.0"), GPUS[2:3]),
    ],
)
def test_what_a_file_names_and_where_it_runs(
    runtime: str, target: str, shown: tuple[str, str], runs_on: tuple[Gpu, ...]
) -> None:
    assert shown_target(runtime, target, ADA) == shown
    gpu, capability = shown
    identity = replace(IDENTITY, backend=runtime, gpu=gpu, compute_capability=capability)
    assert tuple(other for other in GPUS if not misfit(identity, "10.3.0", other)) == runs_on
    assert "here it is 11.0" in misfit(identity, "11.0", ADA)


def test_rtx_builds_for_the_capabilities_that_are_named(tmp_path: Path) -> None:
    rtx()
    source = save_network(tmp_path / "tiny.onnx")

    def build(target: str) -> tuple[PlanIdentity, bool, int]:
        built = build_engine(
            source,
            backend="rtx",
            precision="fp16",
            options=PlanOptions(target=target),
            cache_dir=tmp_path / "cache",
        )
        return built.header.identity, built.found, built.header.plan_bytes

    identity, found, for_two = build("8.9,8.6")
    assert (identity.gpu, identity.compute_capability) == ("any", "8.6, 8.9")
    assert not found
    assert build("8.6,8.9")[1]
    identity, found, for_one = build("8.6")
    assert identity.compute_capability == "8.6"
    assert not found
    assert for_one < for_two
    assert not build("")[1]


def test_a_capability_that_rtx_does_not_know(tmp_path: Path) -> None:
    rtx()
    source = save_network(tmp_path / "tiny.onnx")
    with pytest.raises(EngineError, match=r"compute capability 5\.2\. Allowed: 7\.5") as caught:
        build_engine(
            source,
            backend="rtx",
            precision="fp16",
            options=PlanOptions(target="5.2"),
            out=tmp_path / "x.engine",
        )
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    assert not (tmp_path / "x.engine").exists()
