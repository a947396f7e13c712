"""Which convolutions lose most when they are quantised: one at a time, on real images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.calibration.network import FloatNetwork, logits_tensor
from rtseg.calibration.observe import U8, GraphRunner, Progress
from rtseg.calibration.qdq import insert_qdq


@dataclass(frozen=True)
class Sensitivity:
    """What quantising a set of convolutions does to the result.

    Attributes:
        name: the convolution, or a name for the set.
        disagreement: share of the pixels whose class changes, 0 to 1.
        noise: power of the change of the logits over the power of the logits.
    """

    name: str
    disagreement: float
    noise: float


class Reference:
    """The float network's answers on a few images, to compare others with.

    Args:
        network: the float network.
        frames: uint8 H x W x 3 RGB frames of the network's size.
        threads: CPU threads.
    """

    def __init__(self, network: FloatNetwork, frames: Sequence[U8], *, threads: int = 1) -> None:
        self._network = network
        self._frames = frames
        self._threads = threads
        self._outputs = [network.model.graph.output[0].name, logits_tensor(network)]
        runner = self._runner(network.model)
        self._answers = [self._answer(runner, frame) for frame in frames]

    def compare(self, model: Any, name: str) -> Sensitivity:
        """Run a quantised form of the network and say how far it is from the float one."""
        runner = self._runner(model)
        changed = pixels = 0
        noise = power = 0.0
        for frame, (labels, logits) in zip(self._frames, self._answers, strict=True):
            other_labels, other_logits = self._answer(runner, frame)
            changed += int(np.count_nonzero(labels != other_labels))
            pixels += labels.size
            noise += float(np.square(logits - other_logits, dtype=np.float64).sum())
            power += float(np.square(logits, dtype=np.float64).sum())
        return Sensitivity(name, changed / max(1, pixels), noise / power if power else 0.0)

    def _runner(self, model: Any) -> GraphRunner:
        return GraphRunner(model, self._network.spec, self._outputs, threads=self._threads)

    def _answer(self, runner: GraphRunner, frame: U8) -> tuple[NDArray[Any], NDArray[Any]]:
        output, logits = runner(frame)
        if self._network.spec.output_kind == "logits":
            output = output[:, : len(self._network.spec.classes)].argmax(1)
        return output.astype(np.uint8), logits.astype(np.float32)


def scan(
    network: FloatNetwork,
    reference: Reference,
    convs: Collection[str],
    thresholds: Mapping[str, float],
    means: Mapping[str, NDArray[Any]] | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[Sensitivity, ...]:
    """Quantise each convolution alone and measure; the most sensitive comes first.

    Args:
        network: the float network.
        reference: its answers.
        convs: the convolutions to try.
        thresholds: magnitude of code 127 for each tensor.
        means: of each channel of the convolutions' inputs, for their biases.
        progress: told how far it is.
    """
    found = []
    for number, name in enumerate(convs, start=1):
        model = insert_qdq(network, {name}, thresholds, means)
        found.append(reference.compare(model, name))
        if progress:
            progress("scan", number, len(convs))
    return tuple(sorted(found, key=lambda s: (-s.noise, s.name)))
