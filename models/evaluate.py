"""Judge a network on labelled images, as Cityscapes does.

The frame is squashed to the network's input, the prediction brought to the label's own
size, and all pixels of all images go into one confusion matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.camvid import (
    CAMVID,
    find_camvid,
    from_cityscapes_table,
    read_camvid_label,
)
from rtseg.calibration.cityscapes import Sample, find_samples, read_image, read_label
from rtseg.calibration.metrics import Scores, confusion_matrix, scores
from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.models.errors import ModelError, missing_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras

U8 = NDArray[np.uint8]

#: RGB uint8 (H, W, 3) and the label's (height, width) -> class ids uint8 of that size.
Predictor = Callable[[U8, tuple[int, int]], U8]


def upsample_argmax(logits: NDArray[np.float32], size: tuple[int, int]) -> U8:
    """Upsample logits (C, h, w) bilinearly to ``size`` (height, width); return the argmax.

    Works class by class, so memory stays at two planes of the full size.
    """
    height, width = size
    best = np.full((height, width), -np.inf, np.float32)
    ids = np.zeros((height, width), np.uint8)
    for number, plane in enumerate(logits):
        full = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        better = full > best
        ids[better] = number
        np.maximum(best, full, out=best)
    return ids


def nearest(labels: U8, size: tuple[int, int]) -> U8:
    """Enlarge class ids (h, w) to ``size`` (height, width) without mixing them."""
    return np.asarray(
        cv2.resize(labels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8
    )


def keras_predictor(model: keras.Model) -> Predictor:
    """Predict with a Keras network; logits are upsampled."""
    height, width = (int(side) for side in model.input_shape[1:3])

    def predict(image: U8, size: tuple[int, int]) -> U8:
        view = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        logits = np.asarray(model.predict_on_batch(view[None].astype(np.float32)))
        return upsample_argmax(np.ascontiguousarray(logits[0].transpose(2, 0, 1)), size)

    return predict


@contextmanager
def engine_predictor(path: Path, **options: Any) -> Iterator[Predictor]:
    """Predict with an engine, as ``rt-seg`` does; its class ids are enlarged by nearest."""
    from rtseg.engines.registry import open_engine

    with open_engine(path, **options) as engine:
        size_in = (engine.spec.width, engine.spec.height)

        def predict(image: U8, size: tuple[int, int]) -> U8:
            view = cv2.resize(image, size_in, interpolation=cv2.INTER_LINEAR)
            return nearest(engine.infer(np.asarray(view, np.uint8)[None])[0], size)

        yield predict


def logits_predictor(path: Path) -> Predictor:
    """Predict with an exported ONNX file cut before its upsampling; logits are upsampled.

    Raises:
        ModelError: ONNX Runtime is missing, or the file is not one of ours.
    """
    try:
        import onnx
        import onnxruntime as ort
    except ImportError as error:
        raise missing_package("onnxruntime", "evaluating logits") from error
    try:
        model = onnx.load(path)
        tail = next(node for node in model.graph.node if node.name == "upsample")
    except FileNotFoundError as error:
        raise ModelError(f"no such file: {path}", reason="NOT_FOUND") from error
    except Exception as error:
        raise ModelError(
            f"{path} has no upsampling to cut off; judge its labels instead",
            reason="BAD_WEIGHTS",
        ) from error
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(tail.input[0], onnx.TensorProto.FLOAT, None)
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    height, width = (int(side) for side in entry.shape[1:3])

    def predict(image: U8, size: tuple[int, int]) -> U8:
        view = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return upsample_argmax(session.run(None, {entry.name: view[None]})[0][0], size)

    return predict


def find_data(root: Path, split: str, kind: str) -> list[Sample]:
    """List the samples of a data set of ``kind`` cityscapes or camvid."""
    if kind == "camvid":
        return find_camvid(root, split)
    if kind == "cityscapes":
        return find_samples(root, split)
    raise ModelError(
        f"unknown data kind {kind!r}. Allowed: cityscapes, camvid", reason="BAD_CONFIG"
    )


def judge(
    predict: Predictor,
    samples: Sequence[Sample],
    kind: str = "cityscapes",
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    observe: Sequence[Callable[[Sample, U8, U8], None]] = (),
) -> tuple[ClassTable, Scores]:
    """Score a 19-class network on labelled samples.

    On CamVid its classes are mapped to CamVid's 11 first.

    Args:
        predict: the network.
        samples: what it is judged on.
        kind: ``cityscapes`` or ``camvid``.
        progress: told (done, total) after each image.
        observe: each is given the sample, its label and the prediction, both uint8 (H, W).

    Returns:
        The classes judged, and the scores.
    """
    table = CAMVID if kind == "camvid" else CITYSCAPES
    mapping = from_cityscapes_table()
    matrix = np.zeros((len(table), len(table)), np.int64)
    for number, sample in enumerate(samples, 1):
        label = read_camvid_label(sample) if kind == "camvid" else read_label(sample)
        height, width = label.shape
        guess = predict(read_image(sample.image), (height, width))
        if kind == "camvid":
            guess = mapping[guess]
        matrix += confusion_matrix(label, guess, len(table))
        for each in observe:
            each(sample, label, guess)
        progress(number, len(samples))
    return table, scores(matrix)


@contextmanager
def open_predictor(
    model: Path, *, network: str, size: tuple[int, int], upsample: str, backend: str
) -> Iterator[Predictor]:
    """Open whatever ``model`` is: ``.weights.h5``, or an engine file.

    Args:
        model: Keras weights, or an ONNX or engine file.
        network: what the Keras weights belong to.
        size: (height, width) of the input for Keras weights.
        upsample: ``labels`` (as the loop does) or ``logits`` (as papers do).
        backend: of the engine.
    """
    with ExitStack() as stack:
        if model.name.endswith(".h5"):
            from rtseg.models.registry import build, load_weights

            keras_model = build(network, *size)
            load_weights(keras_model, str(model))
            yield keras_predictor(keras_model)
        elif upsample == "logits":
            yield logits_predictor(model)
        else:
            yield stack.enter_context(engine_predictor(model, backend=backend))


def as_text(table: ClassTable, result: Scores) -> str:
    """The scores as lines for people."""
    width = max(len(name) for name in table.names)
    rows = [
        f"{name:<{width}}  {'  –' if np.isnan(iou) else f'{100 * iou:5.2f}'}"
        for name, iou in zip(table.names, result.class_iou, strict=True)
    ]
    return "\n".join(
        [
            *rows,
            f"{'mIoU':<{width}}  {100 * result.mean_iou:5.2f}",
            f"{'pixel accuracy':<{width}}  {100 * result.pixel_accuracy:5.2f}",
        ]
    )
