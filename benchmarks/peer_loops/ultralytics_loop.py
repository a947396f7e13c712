"""Ultralytics' semantic segmentation: ``predict(save=True)`` with a model exported to OpenVINO.

``model`` is a file of trained weights, or the name of a model, which then has random ones. Without
a ``clip`` it only exports, to OpenVINO and to ONNX.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from clocked import Clock, arguments


def bring_torchvision() -> None:
    """Import torchvision where its wheel is for another build of torch (CUDA, on a CPU).

    Its own operators then fail to load, and its import fails over describing them to torch;
    segmentation uses none of them.
    """
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        described = "torchvision._meta_registrations"
        sys.modules[described] = ModuleType(described)
        import torchvision  # noqa: F401


def main() -> None:
    """Export once, then run once."""
    given = arguments()
    bring_torchvision()
    os.environ["YOLO_CONFIG_DIR"] = given["folder"]
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    from ultralytics import YOLO, settings

    settings.update({"sync": False})
    folder = Path(given["folder"])
    os.chdir(folder)
    size = int(given["size"])
    stem = f"{Path(given['model']).stem}-{size}"
    exported = folder / f"{stem}_openvino_model"
    if not (exported.exists() and (folder / f"{stem}.onnx").exists()):
        shutil.rmtree(exported, ignore_errors=True)
        source = given["model"] if given["model"].endswith(".pt") else f"{given['model']}.yaml"
        network = YOLO(source, task="semantic")
        shutil.move(network.export(format="openvino", imgsz=size), exported)
        shutil.move(network.export(format="onnx", imgsz=size), folder / f"{stem}.onnx")
        (folder / f"{stem}-int8.onnx").unlink(missing_ok=True)
    if "clip" not in given:
        return
    model = YOLO(str(exported), task="semantic")
    results = model.predict(given["blank"], imgsz=size, verbose=False)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    clock = Clock()
    frames = 0
    for _ in model.predict(
        given["clip"], imgsz=size, save=True, stream=True, verbose=False, project=given["out"]
    ):
        frames += 1
    # the writer is released when the predictor ends
    names = ("ultralytics", "openvino", "torch")
    clock.report(
        frames,
        versions=", ".join(f"{name} {version(name)}" for name in names),
        result=type(results[0]).__name__,
    )


if __name__ == "__main__":
    main()
