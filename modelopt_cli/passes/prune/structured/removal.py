"""Take channels out of a model: weights, statistics, shape constants and attributes, all at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph.edit import constant, forget_names, remove_dead
from modelopt_cli.passes.prune.states import GATES
from modelopt_cli.passes.prune.structured.analysis import Dependencies
from modelopt_cli.passes.prune.structured.channels import Axis
from modelopt_cli.passes.prune.structured.flow import Kept, Use, replace_input

_LAYERS = frozenset({"Conv", "MatMul", "Gemm", *GATES})


def kept_without(found: Dependencies, labels: Iterable[int]) -> Kept:
    """Everything but the components of these labels."""
    return Kept(~np.isin(found.label, np.fromiter(labels, np.int64)))


def remove_channels(model: ir.Model, found: Dependencies, kept: Kept) -> int:
    """Remove what is not kept from the graph that ``found`` describes.

    Returns:
        Number of weights that became smaller.
    """
    forget_names(model)
    changed = 0
    for (value, use), axes in found.flow.weights.items():
        if any(kept.changes(axis) for axis in axes):
            _shrink(value, use, axes, kept)
            changed += 1
    for rewrite in found.flow.rewrites:
        rewrite(kept)
    for value, axes in found.flow.values.items():
        _tell_shape(value, axes, kept)
    remove_dead(model.graph, [node for node in model.graph if node.op_type == "Constant"])
    return changed


def left_of(found: Dependencies, kept: Kept) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Which outputs and inputs of each layer stay, by name of its first output, in the order of its matrix.

    Gates of a recurrent layer stand one behind another, for each unit, and its inputs are followed by its units.
    """
    left: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for node in dict.fromkeys(value.producer() for value in found.flow.values):
        if node is None or node.op_type not in _LAYERS or not (axes := found.flow.values.get(node.outputs[0])):
            continue
        rows = kept.mask(axes[1] if node.op_type == "Conv" else axes[-1])
        columns = np.ones(0, bool)
        if node.op_type in GATES:
            product = next(each for each in found.products if each.node is node)
            columns = np.concatenate([kept.mask(product.columns), rows])
            rows = np.tile(rows, GATES[node.op_type] * (axes[1].size or 1))
        left[node.outputs[0].name or ""] = rows, columns
    return left


def _shrink(value: ir.Value, use: Use | None, axes: list[Axis], kept: Kept) -> None:
    array = constant(value)
    assert array is not None
    for place, axis in enumerate(axes):
        if kept.changes(axis):
            array = np.compress(kept.mask(axis), array, axis=place)
    for node, index in [use] if use is not None else list(value.uses()):
        if node.inputs[index] is value or use is None:
            replace_input(node, index, array)


def _tell_shape(value: ir.Value, axes: list[Axis], kept: Kept) -> None:
    if value.shape is None or value.is_graph_output() or len(value.shape) != len(axes):
        return
    if any(kept.changes(axis) for axis in axes):
        sizes = [kept.count(axis) if kept.changes(axis) else size for axis, size in zip(axes, value.shape, strict=True)]
        value.shape = ir.Shape(sizes)
