"""Engine files really built, with TensorRT-RTX, which needs no GPU for that."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

from rtseg.calibration.calibration_set import select_images
from rtseg.calibration.quantise import quantise_onnx
from rtseg.engines import tensorrt
from rtseg.engines.build import build_engine
from rtseg.engines.errors import EngineError
from rtseg.engines.planfile import PlanHeader, read_header, read_plan, write_plan
from rtseg.engines.shipped import ShippedModel, shipped_models
from rtseg.engines.tensorrt import PlanOptions, build_plan, load_runtime
from tests.calibration.nets import save_images, save_network, tiny_network
from tests.engines.networks import TinyNet
from tests.engines.rtx import layer_of, rtx

SHIPPED = [model for model in shipped_models() if model.precision == "fp32"]


@pytest.fixture(autouse=True)
def needs_rtx() -> None:
    rtx()


def convolutions(path: Path, header: PlanHeader) -> dict[str, str]:
    """The type in which each convolution of an ONNX file was built."""
    found = {}
    for node in onnx.load(path).graph.node:
        if node.op_type == "Conv":
            layer = layer_of(header.layers, node.name)
            found[node.name] = layer.precision if layer else "absent"
    return found


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda m: f"{m.name}-{m.width}x{m.height}")
@pytest.mark.parametrize(("precision", "type_"), [("fp32", "Float"), ("fp16", "Half")])
def test_every_convolution_of_a_shipped_network(
    shipped: ShippedModel, precision: str, type_: str, tmp_path: Path
) -> None:
    built = build_engine(
        shipped.path, backend="rtx", precision=precision, out=tmp_path / "net.engine"
    )
    types = convolutions(shipped.path, built.header)
    assert len(types) > 20
    assert set(types.values()) == {type_}
    assert not built.warnings
    identity = built.header.identity
    assert (identity.gpu, identity.max_batch) == ("any", 1)
    assert built.header.spec.precision == precision
    assert read_plan(built.path, identity)[0] == built.header


@pytest.mark.parametrize("shipped", SHIPPED[:1], ids=lambda m: m.name)
def test_int8_where_it_was_intended_and_half_elsewhere(
    shipped: ShippedModel, tmp_path: Path
) -> None:
    images = select_images(save_images(tmp_path / "images", 2))
    source = tmp_path / "int8.onnx"
    report = quantise_onnx(shipped.path, images, source, keep_fp32=["stem"])
    built = build_engine(source, backend="rtx", precision="int8", out=tmp_path / "net.engine")
    types = convolutions(source, built.header)
    assert {name for name, found in types.items() if found == "Int8"} == set(report.quantised)
    assert {found for name, found in types.items() if name not in report.quantised} == {"Half"}
    assert built.header.spec.precision == "int8"
    assert built.header.identity.calibration_sha256 == report.spec.calibration_sha256


def test_shipped_int8_files_are_built_as_their_nodes_say(tmp_path: Path) -> None:
    files = [model.path for model in shipped_models() if model.precision == "int8"]
    if not files:
        pytest.skip("this installation ships no INT8 network")
    for source in files:
        built = build_engine(source, backend="rtx", precision="int8", out=tmp_path / "net.engine")
        graph = onnx.load(source).graph
        weights = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
        types = convolutions(source, built.header)
        for node in graph.node:
            if node.op_type == "Conv":
                assert types[node.name] == ("Int8" if node.input[1] in weights else "Half")


def test_a_second_build_finds_the_first(tmp_path: Path) -> None:
    source = save_network(tmp_path / "tiny.onnx")

    def build(**options: Any) -> tuple[Path, bool]:
        built = build_engine(
            source, backend="rtx", precision="fp16", cache_dir=tmp_path / "cache", **options
        )
        return built.path, built.found

    first, found = build()
    assert not found
    assert build() == (first, True)
    assert build(force=True) == (first, False)
    other, found = build(options=PlanOptions(workspace_mib=64))
    assert not found
    assert other != first
    save_network(source, seed=1)  # the same name, other weights
    assert build()[1] is False
    assert len(list((tmp_path / "cache" / "engines").iterdir())) == 3


def test_a_damaged_or_unfit_file_is_built_anew(tmp_path: Path) -> None:
    source = save_network(tmp_path / "tiny.onnx")
    out = tmp_path / "tiny.engine"
    built = build_engine(source, backend="rtx", precision="fp16", out=out)
    out.write_bytes(out.read_bytes()[:-7])
    again = build_engine(source, backend="rtx", precision="fp16", out=out)
    assert not again.found
    assert "is damaged: its plan has" in again.rebuilt
    assert read_header(out).plan_bytes > 0
    other = build_engine(source, backend="rtx", precision="fp32", out=out)
    assert other.rebuilt == ("tiny.engine does not fit: built for precision fp16, here it is fp32")
    assert built.header.identity != other.header.identity


@pytest.mark.parametrize("force", [False, True])
def test_somebody_elses_file_is_kept(tmp_path: Path, force: bool) -> None:
    source = save_network(tmp_path / "tiny.onnx")
    with pytest.raises(EngineError, match="no engine file of rt-seg"):
        build_engine(source, backend="rtx", precision="fp16", out=source, force=force)
    onnx.checker.check_model(onnx.load(source))


def test_a_place_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    source = save_network(tmp_path / "tiny.onnx")
    said: list[str] = []
    for out, line in ((tmp_path / "no" / "x.engine", "no such folder"), (tmp_path, "is a folder")):
        with pytest.raises(EngineError, match=line):
            build_engine(
                source,
                backend="rtx",
                precision="fp16",
                out=out,
                progress=lambda step, done, total: said.append(step),
            )
    assert not said


def test_a_foreign_network_takes_one_frame(tmp_path: Path) -> None:
    source = TinyNet().save(tmp_path / "foreign.onnx")
    built = build_engine(source, backend="rtx", precision="fp16", out=tmp_path / "x.engine")
    assert built.header.identity.max_batch == 1
    assert built.header.spec.network == "foreign"
    assert set(convolutions(source, built.header).values()) == {"Half"}


@pytest.mark.parametrize(
    ("net", "precision", "complaint"),
    [
        (TinyNet(), "int8", "is FP32; INT8 is made by calibration"),
        (TinyNet(quantised=True), "fp16", "is INT8; FP16 is built from the FP32 network"),
        (TinyNet(dtype="float16"), "fp32", "is FP16; FP32 is built from the FP32 network"),
        (TinyNet(), "bf16", "unknown precision 'bf16'"),
    ],
)
def test_a_precision_that_the_network_is_not(
    net: TinyNet, precision: str, complaint: str, tmp_path: Path
) -> None:
    source = net.save(tmp_path / "net.onnx")
    with pytest.raises(EngineError, match=complaint):
        build_engine(source, backend="rtx", precision=precision, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.engine"))


def test_the_parsers_complaint_names_the_node() -> None:
    model = tiny_network()
    for node in model.graph.node:
        if node.name == "enlarge":
            for attribute in node.attribute:
                if attribute.name == "coordinate_transformation_mode":
                    attribute.s = b"half_pixel_symmetric"
    for opset in model.opset_import:
        opset.version = 19
    with pytest.raises(EngineError) as caught:
        build_plan(model, "rtx", network="street")
    assert caught.value.reason == "ENGINE_UNSUPPORTED"
    assert "cannot build street: Resize 'enlarge': " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_progress_is_told_and_its_error_stops_the_build() -> None:
    steps: list[tuple[str, int, int]] = []
    build_plan(tiny_network(), "rtx", progress=lambda *step: steps.append(step))
    assert steps[0][1] == 0
    assert steps[-1][1] == steps[-1][2] > 0
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)

    def fail(step: str, done: int, total: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        build_plan(tiny_network(), "rtx", progress=fail)
    assert build_plan(tiny_network(), "rtx").plan  # the next one is as if nothing had been


def test_ctrl_c_leaves_no_file(tmp_path: Path) -> None:
    if not SHIPPED:
        pytest.skip("this installation ships no FP32 network")
    script = (
        "import sys, signal; from rtseg.tools.rt_seg_engine import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    )
    out = tmp_path / "net.engine"
    typed = ["build", str(SHIPPED[0].path), "--backend", "rtx", "--precision", "fp16"]
    with subprocess.Popen(
        [sys.executable, "-c", script, *typed, "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "building engine" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, (said, errors)
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_a_runtime_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt_rtx", "tensorrt_rtx_libs", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError) as caught:
        load_runtime("rtx")
    assert str(caught.value).endswith("(pip install rt-seg[rtx])")
    assert caught.value.reason == "BACKEND_MISSING"
    with pytest.raises(EngineError, match=r"pip install rt-seg\[tensorrt\]"):
        load_runtime("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))  # as type stubs leave it
    with pytest.raises(EngineError, match="TensorRT: not installed") as caught:
        load_runtime("tensorrt")
    assert caught.value.reason == "BACKEND_MISSING"


def test_an_engine_of_the_cache_that_is_out_of_date_says_why(tmp_path: Path) -> None:
    source = save_network(tmp_path / "tiny.onnx")

    def build(**options: Any) -> str:
        return build_engine(
            source, backend="rtx", precision="fp16", cache_dir=tmp_path / "cache", **options
        ).rebuilt

    assert build() == ""
    (first,) = (tmp_path / "cache" / "engines").iterdir()
    assert build(options=PlanOptions(workspace_mib=64)) == ""  # other options, both are wanted
    header, plan = read_plan(first)
    older = replace(header, identity=replace(header.identity, runtime_version="1.0.0"))
    write_plan(first.with_name(first.name.replace(header.identity.key(), "0" * 16)), older, plan)
    for path in (tmp_path / "cache" / "engines").iterdir():
        if "0" * 16 not in path.name:
            path.unlink()
    why = build()
    assert why.startswith("tiny-32x32-fp16-rtx-0000000000000000.engine does not fit: ")
    assert "built for runtime version 1.0.0, here it is" in why
    assert build() == ""


@pytest.mark.parametrize("end", ["nchw", "nhwc", "nhw", "n1hw", "nhw1"])
@pytest.mark.parametrize("id_dtype", ["int64", "uint8"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_foreign_networks_of_every_input_and_output(
    end: str, id_dtype: str, dtype: str, layout: str, tmp_path: Path
) -> None:
    if end in ("nchw", "nhwc") and id_dtype != "int64":
        pytest.skip("scores have no ids")
    net = TinyNet(end=end, id_dtype=id_dtype, dtype=dtype, layout=layout)
    source = net.save(tmp_path / "net.onnx")
    built = build_engine(source, backend="rtx", precision="fp16", out=tmp_path / "net.engine")
    assert "Half" in {layer.precision for layer in built.header.layers}


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("fp16", True)])
def test_fp32_is_not_rounded_to_tf32(
    tmp_path: Path, precision: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = []
    configure = tensorrt._Build._configure

    def watched(build: Any, builder: Any, definition: Any) -> Any:
        config = configure(build, builder, definition)
        flags.append(config.get_flag(build._trt.BuilderFlag.TF32))
        return config

    monkeypatch.setattr(tensorrt._Build, "_configure", watched)
    source = TinyNet().save(tmp_path / "net.onnx")
    build_engine(source, backend="rtx", precision=precision, out=tmp_path / "x.engine")
    assert flags == [allowed]
