"""Collects what is to be added to an ``onnx.ModelProto``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class GraphBuilder:
    """Collects nodes and constants under names that a graph does not use yet.

    Args:
        model: the ``onnx.ModelProto`` that they are for.
        part: what they are, a word of their names.
    """

    def __init__(self, model: Any, part: str) -> None:
        self._graph = model.graph
        self._part = part
        self._opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self._nodes: list[Any] = []
        self._count = 0

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"rtseg/{self._part}/{kind}_{self._count}"

    def constant(self, value: np.ndarray[Any, Any]) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = self._name("const")
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def node(
        self, op_type: str, inputs: Sequence[str], output: str | None = None, **attributes: Any
    ) -> str:
        """Add a node and return the name of its output."""
        from onnx import helper

        result = output or self._name(op_type)
        self._nodes.append(
            helper.make_node(op_type, list(inputs), [result], name=self._name("node"), **attributes)
        )
        return result

    def resize(self, tensor: str, sizes: Sequence[int], **attributes: Any) -> str:
        """Add a Resize to ``sizes``, in the form of the model's opset, and return its output."""
        wanted = self.constant(np.array(sizes, np.int64))
        unused = ["", ""]
        if self._opset < 13:  # region and scales may not be left out yet, only be empty
            unused = [self.constant(np.zeros(0, np.float32)) for _ in unused]
        return self.node("Resize", [tensor, *unused, wanted], **attributes)

    def insert_before(self) -> None:
        """Put the nodes before those of the model."""
        for position, node in enumerate(self._nodes):
            self._graph.node.insert(position, node)

    def insert_after(self) -> None:
        """Put the nodes after those of the model."""
        self._graph.node.extend(self._nodes)
