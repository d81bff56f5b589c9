"""Biases that give back what rounding takes from the mean of outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import add_weight, constant, only_reader

INTEGER_PRODUCT = "MatMulIntegerToFloat"


@dataclass(frozen=True)
class Bias:
    """Where the bias of a product is, or can be.

    Attributes:
        node: The node that adds it: the product itself, or the Add behind it.
        index: Of its input.
        array: float32 [outputs]; zeros where there is none yet.
    """

    node: ir.Node
    index: int
    array: np.ndarray

    def shift(self, graph: ir.Graph, by: np.ndarray) -> None:
        """Add ``by`` [outputs] to it, in a constant of its own.

        Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction", arXiv 1906.04721.
        """
        stem = self.node.name or self.node.op_type
        weight = add_weight(graph, f"{stem}_bias", np.asarray(self.array + by, np.float32))
        if len(self.node.inputs) <= self.index:
            self.node.resize_inputs(self.index + 1)
        self.node.replace_input_with(self.index, weight)


def find_bias(node: ir.Node, outputs: int) -> Bias | None:
    """The bias of a Conv, Gemm or MatMul; None where there is none to shift, or it is not a plain vector."""
    if node.op_type == "MatMul":
        add = only_reader(node.outputs[0])
        if add is None or add.op_type != "Add" or add.graph is not node.graph:
            return None
        index = 1 if add.inputs[0] is node.outputs[0] else 0
        return _vector(add, index, outputs)
    if node.op_type == "Gemm" and (node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)) != (
        1.0,
        1.0,
    ):
        return None
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return Bias(node, 2, np.zeros(outputs, np.float32))
    return _vector(node, 2, outputs)


def integer_bias(node: ir.Node, outputs: int) -> Bias | None:
    """The bias of a MatMulIntegerToFloat."""
    return _vector(node, 6, outputs) if len(node.inputs) > 6 else None


def _vector(node: ir.Node, index: int, outputs: int) -> Bias | None:
    array = constant(node.inputs[index])
    if array is None or array.dtype != np.float32 or array.shape != (outputs,):
        return None
    return Bias(node, index, array)
