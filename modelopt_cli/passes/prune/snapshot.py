"""The weights of a model as they are now, to go back to."""

from __future__ import annotations

import onnx_ir as ir


class Snapshot:
    """Holds the tensors of a model's main graph; tensors are never written into, so nothing is copied."""

    def __init__(self, model: ir.Model) -> None:
        constants = [node for node in model.graph if node.op_type == "Constant" and "value" in node.attributes]
        self._attributes = [(node, node.attributes["value"]) for node in constants]
        values = [*model.graph.initializers.values(), *(node.outputs[0] for node in constants)]
        self._tensors = [(value, value.const_value) for value in values]

    def restore(self) -> None:
        """Make the weights what they were."""
        for value, tensor in self._tensors:
            value.const_value = tensor
        for node, attribute in self._attributes:
            node.attributes["value"] = attribute
