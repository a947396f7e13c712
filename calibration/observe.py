"""Run a network on images and look at what passes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.errors import CalibrationError
from rtseg.calibration.histogram import MagnitudeHistogram
from rtseg.calibration.network import FloatNetwork
from rtseg.engines.concat import quantise_before_concat
from rtseg.engines.openvino_runtime import load_openvino
from rtseg.engines.spec import EngineSpec

U8 = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and its total."""

_COUNTED = 1 << 18
"""Values of one tensor and image that are counted; its largest is taken from all."""

_GROUP_BYTES = 192 << 20
"""Outputs fetched from the runtime at once; more tensors mean more runs."""


class GraphRunner:
    """Runs an ONNX model on the CPU and returns any of its tensors.

    Args:
        model: an ``onnx.ModelProto``.
        spec: what the model wants as input.
        outputs: names of the tensors to return; none means the model's own output.
        threads: CPU threads.

    Raises:
        CalibrationError: ``BAD_NETWORK`` where the runtime cannot run the model.
    """

    def __init__(
        self, model: Any, spec: EngineSpec, outputs: Sequence[str] = (), *, threads: int = 1
    ) -> None:
        openvino = load_openvino()
        self._spec = spec
        core = openvino.Core()
        model = _as_the_engine_has_it(model, outputs)
        try:
            network = core.read_model(model.SerializeToString(), b"")
            if network.inputs[0].partial_shape.is_dynamic:
                nhwc = (1, spec.height, spec.width, 3)
                nchw = (1, 3, spec.height, spec.width)
                network.reshape(list(nhwc if spec.input_kind == "uint8_nhwc_rgb" else nchw))
            self._count = len(outputs)
            if outputs:
                network.add_outputs(list(outputs))
            self._compiled = core.compile_model(
                network,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": "f32",
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": 1,
                },
            )
        except RuntimeError as error:
            raise CalibrationError(
                f"the network cannot be run: {str(error).strip().splitlines()[-1]}",
                reason="BAD_NETWORK",
            ) from error
        self._request = self._compiled.create_infer_request()
        # An output that was asked for may be the model's own: look each up by its name.
        self._ports = (
            [self._compiled.output(name) for name in outputs]
            if outputs
            else [self._compiled.output(0)]
        )

    def __call__(self, frame: U8) -> list[NDArray[Any]]:
        """Run one frame, uint8 H x W x 3 RGB of the engine's size.

        Returns:
            The tensors in the order asked for; valid until the next call.
        """
        self._request.infer([to_network_input(frame, self._spec)])
        return [self._request.get_tensor(port).data for port in self._ports]


def _as_the_engine_has_it(model: Any, outputs: Sequence[str]) -> Any:
    """Return a network as `OpenVinoEngine` compiles it; the one given is not changed."""
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    quantise_before_concat(copy, frozenset(outputs))
    return copy


def to_network_input(frame: U8, spec: EngineSpec) -> NDArray[Any]:
    """Return a batch of one in the layout and type that a network wants.

    Args:
        frame: uint8, H×W×3, RGB.
        spec: the network's description.

    Returns:
        uint8, 1×H×W×3, a view of ``frame``, where the network normalises it itself; else
        float32, 1×3×H×W, normalised.
    """
    if spec.input_kind == "uint8_nhwc_rgb":
        return frame[None]
    pixels = frame[..., ::-1] if spec.bgr else frame
    values = pixels.astype(np.float32) / np.float32(spec.scale)
    values = (values - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def observe(
    network: FloatNetwork,
    frames: Callable[[], Iterable[U8]],
    tensors: Sequence[str],
    *,
    total: int,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, MagnitudeHistogram]:
    """Collect the magnitudes of tensors over a set of images.

    Of a large tensor about 260,000 values an image are counted, taken at a regular odd
    distance that starts elsewhere for each image; the largest is taken from all values.
    Memory is bounded: one image's tensors at a time, in groups.

    Args:
        network: the float network.
        frames: called for each group of tensors; gives uint8 H x W x 3 RGB frames of the
            network's size, the same ones each time.
        tensors: names of the tensors.
        total: number of frames, for ``progress``.
        threads: CPU threads of the runtime.
        progress: told how far it is.

    Raises:
        CalibrationError: ``NO_IMAGES``, or ``BAD_ACTIVATIONS`` where a tensor is not finite.
    """
    histograms = {name: MagnitudeHistogram() for name in tensors}
    passing = _passing(network, frames, tensors, threads, "observe", total, progress)
    for name, values, image in passing:
        _count(histograms[name], name, values, image)
    return histograms


def channel_means(
    network: FloatNetwork,
    frames: Callable[[], Iterable[U8]],
    tensors: Sequence[str],
    *,
    total: int,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each channel of tensors (N x C x ...) over a set of images.

    Args and errors are those of :func:`observe`.
    """
    sums: dict[str, Any] = {}
    images = 0
    passing = _passing(network, frames, tensors, threads, "means", total, progress)
    for name, values, image in passing:
        mean = values.mean((0, *range(2, values.ndim)), dtype=np.float32)
        if not np.isfinite(mean).all():
            raise _not_finite(name, image)
        sums[name] = sums.get(name, 0.0) + mean.astype(np.float64)
        images = max(images, image)
    return {name: each / images for name, each in sums.items()}


def _passing(
    network: FloatNetwork,
    frames: Callable[[], Iterable[U8]],
    tensors: Sequence[str],
    threads: int,
    step: str,
    total: int,
    progress: Progress | None,
) -> Iterator[tuple[str, NDArray[Any], int]]:
    """Run the network on all frames, once for each group of tensors.

    Yields:
        Name and values of a tensor, and the number of the image, from 1.
    """
    groups = list(_groups(network, tensors))
    for number, group in enumerate(groups):
        runner = GraphRunner(network.model, network.spec, group, threads=threads)
        image = 0
        for image, frame in enumerate(frames(), start=1):
            for name, values in zip(group, runner(frame), strict=True):
                yield name, values, image
            if progress:
                progress(step, number * total + image, len(groups) * total)
        if image == 0:
            raise CalibrationError(
                "calibration needs at least one image. Received: none", reason="NO_IMAGES"
            )


def _not_finite(name: str, image: int) -> CalibrationError:
    return CalibrationError(
        f"tensor {name!r} is not finite on calibration image {image}", reason="BAD_ACTIVATIONS"
    )


def _count(histogram: MagnitudeHistogram, name: str, values: NDArray[Any], image: int) -> None:
    step = max(1, values.size // _COUNTED) | 1
    try:
        histogram.add(values, step=step, start=image * 7919)
    except ValueError as error:
        raise _not_finite(name, image) from error


def _groups(network: FloatNetwork, tensors: Sequence[str]) -> Iterator[list[str]]:
    """Split the tensors so that no group's float32 values exceed the limit."""
    group: list[str] = []
    size = 0
    for name in tensors:
        needed = 4 * prod(max(1, n) for n in network.shapes.get(name, (1 << 23,)))
        if group and size + needed > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(name)
        size += needed
    if group:
        yield group
