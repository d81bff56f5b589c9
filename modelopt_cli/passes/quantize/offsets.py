"""What added numbers lose by becoming zero points, given back by the biases of the products that read the sum.

    y = x + b   =>   the integers of x, over a zero point that is round(b / step) lower

The sum is off by up to half a step, and by the same everywhere: unlike what rounding does to each number, that does not
average out in a product, so that a chain of learned offsets (PP-LCNet's blocks) loses more by it than by its 8 bits. A
product of a constant is a constant, which goes to its bias: exact but where a Conv reads the zeros around its input,
and right in the mean there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant
from modelopt_cli.passes.quantize.kinds import Candidate, affine_of, has_weight
from modelopt_cli.passes.quantize.params import QuantParams
from modelopt_cli.passes.quantize.regions import Regions
from modelopt_cli.passes.quantize.second_order import as_rows


@dataclass(frozen=True)
class Missing:
    """What a product's input lacks.

    Attributes:
        offset: What each number should be larger by.
        inside: Of a Conv, how often each element of the kernel reads the input and not the zeros around it,
            [*kernel], from 0 to 1.
    """

    offset: float
    inside: np.ndarray

    def shift(self, node: ir.Node, weight: np.ndarray) -> np.ndarray:
        """What it takes from the mean of each output, [outputs]."""
        share = np.broadcast_to(self.inside, weight.shape)
        return np.asarray(as_rows(node, weight * share).sum(axis=1, dtype=np.float64) * self.offset, np.float32)


def missing_offsets(
    regions: Regions, grids: Mapping[ir.Value, QuantParams], shapes: Mapping[str, tuple[int, ...]]
) -> dict[ir.Node, Missing]:
    """What the inputs of products with weights lack by their grids; those that lack nothing left out.

    Args:
        regions: What runs as integers.
        grids: Of its tensors.
        shapes: Of tensors, by name: what a Conv reads of the zeros around its input depends on its size.
    """
    offsets: dict[ir.Value, float] = {}
    for what in regions.integer.values():
        if (offset := _offset(what, grids, offsets)) is not None:
            offsets[what.head] = offset
    found = {}
    for what in regions.integer.values():
        offset = offsets.get(what.activations[0], 0.0) if what.kind == "multiply" and has_weight(what.node) else 0.0
        if offset:
            found[what.node] = Missing(offset, _inside(what, shapes))
    return found


def _offset(what: Candidate, grids: Mapping[ir.Value, QuantParams], offsets: Mapping[ir.Value, float]) -> float | None:
    if what.kind == "move" or (what.node.op_type == "GlobalAveragePool" and what.absorbed is None):
        return offsets.get(what.activations[0])
    if what.kind != "affine":
        return None
    factor, offset = affine_of(what.node)
    before, after = grids[what.activations[0]], grids[what.head]
    kept = (before.zero_point - after.zero_point) * after.scale
    return offsets.get(what.activations[0], 0.0) * factor + offset - kept


def _inside(what: Candidate, shapes: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    node, weight = what.node, constant(what.node.inputs[1])
    if node.op_type != "Conv" or weight is None:
        return np.ones(())
    kernel, attributes = weight.shape[2:], node.attributes
    sizes = shapes[str(what.activations[0].name)][2:]
    results = shapes[str(node.outputs[0].name)][2:]
    strides = attributes.get_ints("strides", [1] * len(kernel))
    dilations = attributes.get_ints("dilations", [1] * len(kernel))
    inside = np.ones(())
    for axis, count in enumerate(kernel):
        reach = (results[axis] - 1) * strides[axis] + (count - 1) * dilations[axis] + 1
        missing = max(reach - sizes[axis], 0)
        before = _before(node, axis, missing, len(kernel))
        first = np.arange(results[axis]) * strides[axis] - before
        read = first[:, None] + np.arange(count) * dilations[axis]
        share = ((read >= 0) & (read < sizes[axis])).mean(axis=0)
        inside = inside[..., None] * share
    return inside


def _before(node: ir.Node, axis: int, missing: int, axes: int) -> int:
    """Zeros in front of an axis: as the node says, or half of those that its result needs."""
    way = node.attributes.get_string("auto_pad", "NOTSET")
    if way == "NOTSET":
        return int(node.attributes.get_ints("pads", [0] * 2 * axes)[axis])
    return {"SAME_UPPER": missing // 2, "SAME_LOWER": missing - missing // 2}.get(way, 0)
