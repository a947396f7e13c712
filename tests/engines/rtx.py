"""TensorRT-RTX for the tests: a real builder that needs no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rtseg.engines.errors import EngineError
from rtseg.engines.tensorrt import _BUILDING, load_runtime
from rtseg.engines.tensorrt_layers import Layer
from rtseg.engines.tensorrt_log import logger_of


def rtx() -> Any:
    """Return the module; skip the test where it is not installed."""
    try:
        return load_runtime("rtx")
    except EngineError as error:
        pytest.skip(f"needs TensorRT-RTX: {error}")


class Complaints:
    """Takes what the builder says in place of a build of ours."""

    def __init__(self, trt: Any) -> None:
        self.levels = trt.ILogger
        self.errors: list[str] = []

    def logged(self, severity: Any, message: str) -> None:
        """Keep errors."""
        if severity in (self.levels.INTERNAL_ERROR, self.levels.ERROR):
            self.errors.append(message)

    def stop(self, error: BaseException) -> None:
        """Keep what went wrong here."""
        self.errors.append(repr(error))


def build_bare(model: Any) -> tuple[bool, list[str]]:
    """Hand a network to the builder as it is; return whether it was built, and its errors."""
    trt = rtx()
    with _BUILDING:
        logger = logger_of(trt)
        logger.build = said = Complaints(trt)
        try:
            builder = trt.Builder(logger)
            flag = int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            definition = builder.create_network(1 << flag)
            parser = trt.OnnxParser(definition, logger)
            if not parser.parse(model.SerializeToString()):
                return False, said.errors
            config = builder.create_builder_config()
            plan = builder.build_serialized_network(definition, config)
            return plan is not None, said.errors
        finally:
            logger.build = None


def layer_of(layers: Sequence[Layer], node: str) -> Layer | None:
    """Return the layer that multiplies an ONNX node's weights, if several name the node."""
    naming = [layer for layer in layers if node in layer.nodes]
    # Reformatting, quantising and scaling around it are generated kernels of their own.
    return max(naming, key=lambda layer: (layer.kind != "kgen", bool(layer.weights)), default=None)
