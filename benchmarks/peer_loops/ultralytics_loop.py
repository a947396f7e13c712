"""Ultralytics' semantic segmentation: ``predict(save=True)`` with a model exported to OpenVINO.

``model`` is a file of trained weights, or the name of a model, which then has random ones. Tuned
is its INT8 export, calibrated on frames of the clip. Without ``out`` it only exports, to ONNX, too.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from clocked import Clock, arguments

CALIBRATION_FRAMES = 64


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


def calibration_data(clip: str, folder: Path) -> str:
    """Write frames of a clip as a data set of Ultralytics', and return its description's path."""
    root = folder / "calibration"
    shutil.rmtree(root, ignore_errors=True)
    for part in ("images", "masks"):
        (root / part / "val").mkdir(parents=True)
    capture = cv2.VideoCapture(clip)
    for number in range(CALIBRATION_FRAMES):
        read, frame = capture.read()
        if not read:
            break
        cv2.imwrite(str(root / "images" / "val" / f"{number:03d}.png"), frame)
        cv2.imwrite(str(root / "masks" / "val" / f"{number:03d}.png"), np.zeros(frame.shape[:2]))
    names = ", ".join(f"{number}: c{number}" for number in range(19))
    described = root / "data.yaml"
    described.write_text(
        f"path: {root}\ntrain: images/val\nval: images/val\nmasks_dir: masks\nnames: {{{names}}}\n"
    )
    return str(described)


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
    exports = [folder / f"{stem}{kind}_openvino_model" for kind in ("", "-int8")]
    if not (all(path.exists() for path in exports) and (folder / f"{stem}.onnx").exists()):
        source = given["model"] if given["model"].endswith(".pt") else f"{given['model']}.yaml"
        network = YOLO(source, task="semantic")
        quantised = {"quantize": 8, "data": calibration_data(given["clip"], folder)}
        for path, options in zip(exports, ({}, quantised), strict=True):
            shutil.rmtree(path, ignore_errors=True)
            shutil.move(network.export(format="openvino", imgsz=size, **options), path)
        shutil.move(network.export(format="onnx", imgsz=size), folder / f"{stem}.onnx")
        (folder / f"{stem}-int8.onnx").unlink(missing_ok=True)
    if "out" not in given:
        return
    exported = exports[1] if given["tuned"] else exports[0]
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
