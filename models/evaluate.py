"""Judge a network on labelled images, as Cityscapes does.

The frame is squashed to the network's input, the prediction brought to the label's own
size, and all pixels of all images go into one confusion matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from rtseg.calibration.metrics import Scores
from rtseg.calibration.verify import cityscapes_table, count_pixels, score_pixels
from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.models.errors import ModelError, missing_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras

U8 = NDArray[np.uint8]

#: RGB uint8 (H, W, 3) and the label's (height, width) -> class ids uint8 of that size.
Predictor = Callable[[U8, tuple[int, int]], U8]


@dataclass(frozen=True)
class OpenNetwork:
    """A network that is open, itself a predictor.

    Attributes:
        predict: gives the network's own class ids.
        classes: what they stand for.
    """

    predict: Predictor
    classes: ClassTable

    def __call__(self, image: U8, size: tuple[int, int]) -> U8:
        """Predict: RGB uint8 (H, W, 3) and (height, width) -> class ids uint8 of that size."""
        return self.predict(image, size)


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


def keras_predictor(model: keras.Model, upsample: str = "logits") -> OpenNetwork:
    """Predict with a Keras network of Cityscapes' classes.

    Args:
        model: the network.
        upsample: ``logits``, or ``labels``: class ids are taken at the network's input size
            and enlarged by nearest, as an engine's are.
    """
    height, width = (int(side) for side in model.input_shape[1:3])

    def predict(image: U8, size: tuple[int, int]) -> U8:
        view = array_to_engine_input(image, height, width)
        logits = np.asarray(model.predict_on_batch(view[None].astype(np.float32)))
        planes = np.ascontiguousarray(logits[0].transpose(2, 0, 1))
        if upsample == "logits":
            return upsample_argmax(planes, size)
        return nearest(upsample_argmax(planes, (height, width)), size)

    return OpenNetwork(predict, CITYSCAPES)


@contextmanager
def engine_predictor(path: Path, **options: Any) -> Iterator[OpenNetwork]:
    """Predict with an engine, as ``rt-seg`` does; its class ids are enlarged by nearest."""
    from rtseg.engines.registry import open_engine

    with open_engine(path, **options) as engine:
        spec = engine.spec

        def predict(image: U8, size: tuple[int, int]) -> U8:
            view = array_to_engine_input(image, spec.height, spec.width, fit=spec.fit)
            labels = engine.infer(view[None])[0]
            return nearest(spec.fit.of_frame(labels, image.shape[1], image.shape[0]), size)

        yield OpenNetwork(predict, spec.classes)


def logits_predictor(path: Path, size: tuple[int, int] | None = None) -> OpenNetwork:
    """Predict with an exported ONNX file cut before its upsampling; logits are upsampled.

    Args:
        path: the file.
        size: width and height in pixels, for a network that takes any.

    Raises:
        ModelError: ONNX Runtime is missing, or the file is not one of ours.
        EngineError: its description is damaged, or it has another size (``ENGINE_MISMATCH``).
    """
    from rtseg.engines.adapt import adapt_onnx
    from rtseg.engines.onnxfile import unsafe_optimizers
    from rtseg.engines.spec import METADATA_KEY

    try:
        import onnx
        import onnxruntime as ort
    except ImportError as error:
        raise missing_package("onnxruntime", "evaluating logits") from error
    try:
        model = onnx.load(path)
        ours = any(entry.key == METADATA_KEY for entry in model.metadata_props)
        tail = next(node for node in model.graph.node if ours and node.name == "upsample")
    except FileNotFoundError as error:
        raise ModelError(f"no such file: {path}", reason="NOT_FOUND") from error
    except StopIteration as error:
        raise ModelError(
            f"{path} has no upsampling to cut off; judge its labels instead",
            reason="BAD_WEIGHTS",
        ) from error
    except Exception as error:
        raise ModelError(
            f"{path} is no ONNX file that can be read: {str(error).splitlines()[0]}",
            reason="BAD_WEIGHTS",
        ) from error
    spec = adapt_onnx(path, size).spec
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(tail.input[0], onnx.TensorProto.FLOAT, None)
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=unsafe_optimizers(model),
    )
    entry = session.get_inputs()[0]

    def predict(image: U8, size: tuple[int, int]) -> U8:
        view = array_to_engine_input(image, spec.height, spec.width)
        return upsample_argmax(session.run(None, {entry.name: view[None]})[0][0], size)

    return OpenNetwork(predict, spec.classes)


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
    classes: ClassTable = CITYSCAPES,
    progress: Callable[[int, int], None] = lambda done, total: None,
    observe: Sequence[Callable[[Sample, U8, U8], None]] = (),
) -> tuple[ClassTable, Scores]:
    """Score a network that knows Cityscapes' 19 classes on labelled samples.

    Classes are matched by name. As in Cityscapes' scripts, a pixel that is given to another
    class is missing from its true one, and is a false positive of none. On CamVid they are
    mapped to CamVid's 11 then.

    Args:
        predict: the network.
        samples: what it is judged on.
        kind: ``cityscapes`` or ``camvid``.
        classes: of the network.
        progress: told (done, total) after each image.
        observe: each is given the sample, its label and the prediction, both uint8 (H, W)
            in the classes judged; 255 in the prediction is another class.

    Returns:
        The classes judged, and the scores.

    Raises:
        CalibrationError: ``CLASS_MISMATCH`` where the network lacks a class of Cityscapes, or
            a file cannot be read.
    """
    table = CAMVID if kind == "camvid" else CITYSCAPES
    mapping = cityscapes_table(classes)
    if kind == "camvid":
        mapping = from_cityscapes_table()[mapping]
    matrix = np.zeros((len(table), len(table) + 1), np.int64)
    for number, sample in enumerate(samples, 1):
        label = read_camvid_label(sample) if kind == "camvid" else read_label(sample)
        height, width = label.shape
        guess = mapping[predict(read_image(sample.image), (height, width))]
        matrix += count_pixels(label, guess, len(table))
        for each in observe:
            each(sample, label, guess)
        progress(number, len(samples))
    return table, score_pixels(matrix)


@contextmanager
def open_predictor(
    model: Path, *, network: str, size: tuple[int, int] | None, upsample: str, backend: str
) -> Iterator[OpenNetwork]:
    """Open whatever ``model`` is: ``.weights.h5``, or an engine file.

    Args:
        model: Keras weights, or an ONNX or engine file.
        network: what the Keras weights belong to.
        size: (height, width) of the input; None takes the network's own for Keras weights
            (`rtseg.models.registry.own_size`), and for other files what they say.
        upsample: ``labels`` (as the loop does) or ``logits`` (as papers do).
        backend: of the engine.

    Raises:
        ModelError: weights that cannot be used.
        EngineError: a file that cannot be used, or that has another size
            (``ENGINE_MISMATCH``).
    """
    wanted = size and (size[1], size[0])
    with ExitStack() as stack:
        if model.name.endswith(".h5"):
            from rtseg.models.registry import build, load_weights, own_size

            keras_model = build(network, *(size or own_size(network)))
            load_weights(keras_model, str(model))
            yield keras_predictor(keras_model, upsample)
        elif upsample == "logits":
            yield logits_predictor(model, wanted)
        else:
            yield stack.enter_context(engine_predictor(model, backend=backend, size=wanted))


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
