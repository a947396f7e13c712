"""Judge a network on labelled images, as Cityscapes does.

The frame is brought to the network's input as in the loop: it fills it, or lies in its middle
where the network wants frames to keep their shape (:mod:`rtseg.engines.fit`). The frame's part of
the prediction is brought to the label's own size, and all pixels of all images go into one
confusion matrix.
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
from rtseg.engines.fit import Fit
from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.engines.nearest import scale_nearest
from rtseg.engines.preprocess import array_to_engine_input
from rtseg.models.errors import ModelError, missing_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras

U8 = NDArray[np.uint8]

#: RGB uint8 (H, W, 3) and the label's (height, width) -> class ids uint8 of that size.
Predictor = Callable[[U8, tuple[int, int]], U8]

_UPSAMPLING = "upsample"  # the node of our exports that enlarges the logits


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


def upsample_argmax(
    logits: NDArray[np.float32],
    size: tuple[int, int],
    *,
    rows: tuple[float, float] = (0.0, 1.0),
    columns: tuple[float, float] = (0.0, 1.0),
) -> U8:
    """Upsample logits bilinearly and return the class that leads at each pixel.

    Works class by class, so memory stays at two planes of the full size.

    Args:
        logits: float32 (C, h, w).
        size: (height, width) of the result, in pixels.
        rows: which part of the logits is wanted, from and to, as shares of their height.
        columns: the same of their width.

    Returns:
        uint8 (height, width): class ids.
    """
    height, width = size
    whole = rows == columns == (0.0, 1.0)
    down = _places(rows, logits.shape[1], height)
    across = _places(columns, logits.shape[2], width)
    best = np.full((height, width), -np.inf, np.float32)
    ids = np.zeros((height, width), np.uint8)
    for number, plane in enumerate(logits):
        if whole:
            full = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        else:
            full = _between(_between(plane, *down).T, *across).T
        better = full > best
        ids[better] = number
        np.maximum(best, full, out=best)
    return ids


def _places(
    part: tuple[float, float], source: int, target: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return each target's two neighbours in the source, and how much it has of the second."""
    share = part[0] + (np.arange(target) + 0.5) / target * (part[1] - part[0])
    at = np.clip(share * source - 0.5, 0, source - 1)
    first = np.floor(at).astype(np.intp)
    return first, np.minimum(first + 1, source - 1), (at - first).astype(np.float32)


def _between(
    plane: NDArray[np.float32],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    share: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return rows that lie between two of a plane's rows each."""
    before, weight = plane[first], share[:, None]
    return np.asarray(before + (plane[second] - before) * weight, np.float32)


def frame_argmax(
    logits: NDArray[np.float32], image: U8, view: U8, fit: Fit, size: tuple[int, int]
) -> U8:
    """Return the classes that lead in a frame's part of the logits, at another size.

    Args:
        logits: float32 (C, h, w), of all the network's input.
        image: the frame, uint8 (H, W, 3).
        view: the network's input that was made of it, uint8 (rows, columns, 3).
        fit: how it was made.
        size: (height, width) of the result, in pixels.

    Returns:
        uint8 (height, width): class ids.
    """
    high, wide = view.shape[:2]
    place = fit.place(image.shape[1], image.shape[0], wide, high)
    return upsample_argmax(
        logits,
        size,
        rows=(place.top / high, (place.top + place.height) / high),
        columns=(place.left / wide, (place.left + place.width) / wide),
    )


def keras_predictor(
    model: keras.Model, upsample: str = "logits", *, fit: Fit | None = None
) -> OpenNetwork:
    """Predict with a Keras network of Cityscapes' classes.

    Args:
        model: the network.
        upsample: ``logits``, or ``labels``: class ids are taken at the network's input size
            and enlarged by nearest, as an engine's are.
        fit: how frames are brought to its input; None as its exported file says
            (`rtseg.models.export.STREET`).
    """
    height, width = (int(side) for side in model.input_shape[1:3])
    from rtseg.models.export import STREET

    as_exported = STREET if fit is None else fit

    def predict(image: U8, size: tuple[int, int]) -> U8:
        view = array_to_engine_input(image, height, width, fit=as_exported)
        logits = np.asarray(model.predict_on_batch(view[None].astype(np.float32)))
        planes = np.ascontiguousarray(logits[0].transpose(2, 0, 1))
        if upsample == "logits":
            return frame_argmax(planes, image, view, as_exported, size)
        labels = upsample_argmax(planes, (height, width))
        return scale_nearest(as_exported.of_frame(labels, image.shape[1], image.shape[0]), *size)

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
            return scale_nearest(spec.fit.of_frame(labels, image.shape[1], image.shape[0]), *size)

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
        given = onnx.load(path)
        ours = any(entry.key == METADATA_KEY for entry in given.metadata_props)
        next(node for node in given.graph.node if ours and node.name == _UPSAMPLING)
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
    adapted = adapt_onnx(path, size)
    spec, model = adapted.spec, adapted.model
    tail = next(node for node in model.graph.node if node.name == _UPSAMPLING)
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(tail.input[0], onnx.TensorProto.FLOAT, None)
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        adapted.serialise(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=unsafe_optimizers(model),
    )
    entry = session.get_inputs()[0]

    def predict(image: U8, size: tuple[int, int]) -> U8:
        view = array_to_engine_input(image, spec.height, spec.width, fit=spec.fit)
        logits = session.run(None, {entry.name: view[None]})[0][0]
        return frame_argmax(logits, image, view, spec.fit, size)

    return OpenNetwork(predict, spec.classes)


def find_data(root: Path, split: str, kind: str) -> list[Sample]:
    """List the samples of a data set.

    Args:
        root: its folder.
        split: as ``train`` or ``val``.
        kind: ``cityscapes`` or ``camvid``.

    Raises:
        ModelError: ``BAD_CONFIG`` for another kind.
        CalibrationError: the root or split is missing or empty, or an image has no label.
    """
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
