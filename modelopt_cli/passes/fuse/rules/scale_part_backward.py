"""A number that multiplies one part of a projection moves back into the columns that make this part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelopt_cli.graph import edit
from modelopt_cli.graph.shapes import dimensions
from modelopt_cli.passes.fuse.affine import as_float, channel_vector, read_affine, rounded
from modelopt_cli.passes.fuse.engine import Editor, Rule
from modelopt_cli.passes.fuse.linear import Linear, fits, read_linear, refusal, write
from modelopt_cli.passes.fuse.pattern import only_made_for


@dataclass(frozen=True)
class Found:
    """The scaling node, what it scales, the projection, the Add behind it or None, and the factor of each column."""

    node: ir.Node
    source: ir.Value
    linear: Linear
    bias: ir.Node | None
    factors: np.ndarray


class ScalePartBackward(Rule[Found]):
    """Fold the scale of the queries into a projection that makes queries, keys and values at once.

    Gather(Transpose(Reshape(x W + b)), 0) * s -> Gather(Transpose(Reshape(x (W f) + b f)), 0)

    f is s in the columns that the Gather takes, and 1 in all others. A product of two parts is scaled by one of them.
    """

    name = "scale-part-backward"
    roots = frozenset({"Mul", "Div"})

    def match(self, node: ir.Node, graph: Editor) -> Found | None:
        affine = read_affine(node)
        if affine is None or affine.scale is None or affine.scale.size != 1 or affine.offset is not None:
            return None
        factor = float(affine.scale.reshape(()))
        found = (_trace(node, affine.source, gather, factor) for gather in _gathers(affine.source, node))
        return next((each for each in found if each is not None), None)

    def check(self, found: Found, graph: Editor) -> str | None:
        if graph.is_protected(found.linear.node):
            return "it is part of a pattern that the runtime recognises"
        weight, bias = found.linear.scaled_output(found.factors, np.zeros(found.linear.outputs))
        if not fits(found.linear, weight, bias if found.linear.bias is not None else None):
            return "the folded weight does not fit its type"
        if found.bias is not None and _scaled(found) is None:
            return "what is added after the product is not one number per output"
        return refusal(found.linear)

    def rewrite(self, found: Found, graph: Editor) -> None:
        weight, bias = found.linear.scaled_output(found.factors, np.zeros(found.linear.outputs))
        write(found.linear, graph, weight, bias if found.linear.bias is not None else None)
        if found.bias is not None and (scaled := _scaled(found)) is not None:
            index, array = scaled
            graph.set_input(found.bias, index, graph.weight(array, f"{found.bias.outputs[0].name}_scaled"))
        graph.replace(found.node.outputs[0], found.source)


def _gathers(value: ir.Value, reader: ir.Node) -> list[ir.Node]:
    """The Gather that makes ``value``, or the operands of the product that makes it."""
    gather = only_made_for(value, reader, "Gather")
    product = only_made_for(value, reader, "MatMul")
    if gather is not None or product is None:
        return [] if gather is None else [gather]
    return [each for operand in product.inputs if (each := only_made_for(operand, product, "Gather")) is not None]


def _trace(node: ir.Node, source: ir.Value, gather: ir.Node, factor: float) -> Found | None:
    """From the Gather back to the projection."""
    part = _part(gather)
    moved = gather.inputs[0]
    if part is None or moved is None:
        return None
    axis, index = part
    before = moved.producer()
    if before is not None and before.op_type == "Transpose":
        perm, moved = before.attributes.get_ints("perm", ()), before.inputs[0]
        shaped = only_made_for(moved, before, "Reshape") if perm else None
        axis = perm[axis] if perm else axis
    else:
        shaped = before if before is not None and before.op_type == "Reshape" else None
    return None if shaped is None else _found(node, source, shaped, axis, index, factor)


def _part(gather: ir.Node) -> tuple[int, int] | None:
    """Axis and index of a part that no other reader of the whole takes too."""
    whole = gather.inputs[0]
    shape = dimensions(whole)
    chosen = _choice(gather, len(shape)) if shape is not None else None
    if whole is None or shape is None or chosen is None or whole.is_graph_output():
        return None
    size = shape[chosen[0]]
    if not isinstance(size, int):
        return None
    for reader in (usage.node for usage in whole.uses()):
        other = _choice(reader, len(shape)) if reader.op_type == "Gather" else None
        if reader is not gather and (other is None or other[0] != chosen[0] or other[1] % size == chosen[1] % size):
            return None
    return chosen[0], chosen[1] % size


def _choice(gather: ir.Node, dims: int) -> tuple[int, int] | None:
    index = edit.constant(gather.inputs[1])
    if index is None or index.ndim != 0 or not dims:
        return None
    return gather.attributes.get_int("axis", 0) % dims, int(index)


def _found(node: ir.Node, source: ir.Value, shaped: ir.Node, axis: int, index: int, factor: float) -> Found | None:
    value, reader, bias = shaped.inputs[0], shaped, None
    add = only_made_for(value, reader, "Add")
    if add is not None:
        value = next(
            (v for v, c in zip(add.inputs, add.inputs[::-1], strict=True) if edit.constant(c) is not None), None
        )
        reader, bias = add, add
    linear = read_linear(None if value is None else value.producer())
    if value is None or linear is None or linear.axis != linear.rank - 1 or edit.only_reader(value) is not reader:
        return None
    factors = _columns(dimensions(shaped.outputs[0]) or (), linear.outputs, axis, index, factor)
    return None if factors is None else Found(node, source, linear, bias, factors)


def _columns(shape: tuple[object, ...], outputs: int, axis: int, index: int, factor: float) -> np.ndarray | None:
    """The factor of each output, when the last dimensions of ``shape`` are the outputs and ``axis`` is one of them."""
    inner: list[int] = []
    for size in reversed(shape):
        if not isinstance(size, int) or int(np.prod(inner)) >= outputs:
            break
        inner.insert(0, size)
    first = len(shape) - len(inner)
    if int(np.prod(inner)) != outputs or axis < first:
        return None
    factors = np.ones(inner)
    factors[(slice(None),) * (axis - first) + (index,)] = factor
    return factors.reshape(-1)


def _scaled(found: Found) -> tuple[int, np.ndarray] | None:
    """Which input of the Add is constant, and its new value."""
    assert found.bias is not None
    for index, value in enumerate(found.bias.inputs):
        constant = edit.constant(value)
        number = as_float(constant)
        if constant is None or number is None:
            continue
        vector = channel_vector(number, found.linear.rank, found.linear.axis, found.linear.outputs, 0.0)
        array = None if vector is None else rounded(vector * found.factors, constant.dtype)
        return None if array is None else (index, array)
    return None
