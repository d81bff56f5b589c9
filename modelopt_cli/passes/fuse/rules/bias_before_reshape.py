"""A bias that was added behind a Reshape goes in front of it, to the product that it belongs to."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.pattern import only_made_for, operands


@dataclass(frozen=True)
class Found:
    """The sum, the Reshape before it and the constant."""

    add: ir.Node
    reshape: ir.Node
    bias: np.ndarray


class BiasBeforeReshape(Rule[Found]):
    """Keras adds the bias of a projection to heads that are split already.

    Reshape(x W, [.., heads, size]) + b[heads, size]   ->   Reshape(x W + b[heads * size], [.., heads, size])
    """

    name = "bias-before-reshape"
    roots = frozenset({"Add"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        for made, other in operands(node):
            reshape, bias = only_made_for(made, node, "Reshape"), edit.constant(other)
            if reshape is not None and bias is not None:
                sizes = tuple(itertools.dropwhile(lambda size: size == 1, bias.shape))
                return Found(node, reshape, bias) if len(sizes) > 1 and _splits_last(reshape, sizes) else None
        return None

    def rewrite(self, found: Found, graph: Editor) -> None:
        before = found.reshape.inputs[0]
        assert before is not None
        flat = graph.weight(found.bias.reshape(-1), f"{found.add.outputs[0].name}_bias")
        total = graph.add("Add", [before, flat], like=before, before=found.reshape)
        graph.set_input(found.reshape, 0, total)
        graph.replace(found.add.outputs[0], found.reshape.outputs[0])


def _splits_last(reshape: ir.Node, sizes: tuple[int, ...]) -> bool:
    """Whether the last axis of a product becomes axes of these sizes; what becomes of those before does not matter."""
    before, after = reshape.inputs[0], dimensions(reshape.outputs[0])
    product = only_made_for(before, reshape, "MatMul")
    weight = None if product is None else edit.constant(product.inputs[1])
    if weight is None or after is None or len(after) < len(sizes):
        return False
    return after[len(after) - len(sizes) :] == sizes and weight.shape[-1] == math.prod(sizes)
